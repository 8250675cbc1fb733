"""What the launch files have in common: their arguments and the actions that start the nodes.

Imports ROS's own `launch`, which is not on PyPI: only launch files may import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from crl_node.system import RESPAWNED, NodeSpec

#: name, default, description, choices
Argument = tuple[str, str, str, tuple[str, ...] | None]


def description(arguments: Sequence[Argument], start: Callable[[dict[str, str]], list]) -> LaunchDescription:
    """Declared arguments, then `start` with their values."""

    def begin(context: LaunchContext) -> list:
        return start({name: LaunchConfiguration(name).perform(context) for name, *_ in arguments})

    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, default, text, choices in arguments
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=begin)])


def node_actions(specs: Sequence[NodeSpec], given: Mapping[str, str]) -> list[Node]:
    """One action a node. A respawned one comes back by itself; the end of any other ends the launch."""
    actions = []
    for spec in specs:
        respawn = spec.name in RESPAWNED
        actions.append(
            Node(
                package="crl_node",
                executable=spec.executable,
                name=spec.name,
                namespace=given["namespace"],
                parameters=[spec.parameters, *([given["params_file"]] if given["params_file"] else [])],
                remappings=list(spec.remappings.items()),
                arguments=["--ros-args", "--log-level", given["log_level"]],
                output="screen",
                respawn=respawn,
                respawn_delay=0.5 if respawn else None,
                on_exit=None if respawn else [EmitEvent(event=Shutdown(reason=f"{spec.name} ended"))],
            )
        )
    return actions
