"""Declares a node's parameters from `config/parameters/<node>.yaml` and keeps their values current."""

from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from crl_node.parameter_spec import BUILTIN, ParameterError, ParameterSpec, load_specs

_UNBOUNDED = 1e300


def declare(node: Node, name: str) -> SimpleNamespace:
    """Declare every parameter of `config/parameters/<name>.yaml` on `node`; the returned values follow later changes.

    A start value (params file, command line) of a wrong type or outside its range raises ParameterError; one that
    no file declares is named in a warning, because it is most often a misspelling.
    """
    specs = load_specs(name)
    given: dict[str, Parameter] = dict(node._parameter_overrides)
    values = SimpleNamespace()
    for spec in specs.values():
        value = spec.default
        if spec.name in given:
            value = spec.coerce(_plain(given[spec.name].value))
        node.declare_parameter(spec.name, value, descriptor(spec), ignore_override=True)
        setattr(values, spec.name, value)
    for unknown in sorted(set(given) - set(specs) - set(BUILTIN)):
        if not unknown.startswith("qos_overrides."):
            node.get_logger().warning(
                f"parameter '{unknown}' = {given[unknown].value!r} is not one of {name}'s "
                f"({', '.join(specs)}); ignoring it"
            )

    def on_set(parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name in specs:
                try:
                    specs[parameter.name].coerce(_plain(parameter.value))
                except ParameterError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def after_set(parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name in specs:
                setattr(values, parameter.name, specs[parameter.name].coerce(_plain(parameter.value)))

    node.add_on_set_parameters_callback(on_set)
    node.add_post_set_parameters_callback(after_set)
    return values


def descriptor(spec: ParameterSpec) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    message = ParameterDescriptor(description=spec.help(), read_only=spec.read_only)
    # An empty list has no type of its own in rclpy, so lists are typed by `on_set` alone.
    message.dynamic_typing = spec.is_array
    low = -_UNBOUNDED if spec.min is None else spec.min
    high = _UNBOUNDED if spec.max is None else spec.max
    if spec.is_array or (spec.min is None and spec.max is None):
        return message
    if spec.element is float:
        message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    elif spec.element is int:
        bounds = max(int(low), -(2**62)), min(int(high), 2**62)
        message.integer_range = [IntegerRange(from_value=bounds[0], to_value=bounds[1], step=0)]
    return message


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, array.array | tuple) else value
