"""`crl world check`: a world file in words."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from crl_node.simulator.causality import true_graph
from crl_node.simulator.world import load_world


def describe(name_or_path: str, seed: int, console: Console) -> None:
    """Print what the world holds and what truly moves what; WorldError when it cannot be read."""
    world = load_world(name_or_path)
    camera = world.camera
    console.print(f"[bold]{world.name}[/] ({world.path}): {world.description}")
    console.print(
        f"table {world.table.x[1] - world.table.x[0]:.2f} x {world.table.y[1] - world.table.y[0]:.2f} m, camera "
        f"{camera.width}x{camera.height} at {camera.rate:g} Hz"
    )
    table = Table("thing", "shape", "size (cm)", "mass", "pose", "", box=None)
    for thing in world.things:
        size = " x ".join(f"{100 * value:g}" for value in thing.size)
        pose = "random" if thing.pose is None else f"{thing.pose[0]:.2f}, {thing.pose[1]:.2f} m"
        role = "button of " + thing.button.lamp if thing.button else "lamp" if thing.lamp else ""
        own = [word for word, there in (("shakes", thing.shake), ("flickers", thing.flicker)) if there]
        role = ", ".join([role, *own] if role else own)
        mass = f"{thing.mass:g} kg" if thing.movable else "immovable"
        table.add_row(thing.name, thing.shape, size, mass, pose, role)
    console.print(table)
    graph = true_graph(world)
    edges = [f"{cause} -> {effect}" for (cause, effect), true in graph.edges.items() if true]
    console.print(f"{len(edges)} of {len(graph.edges)} possible edges are true:")
    for edge in edges:
        console.print(f"  {edge}", highlight=False)
    for kind, cause, effect in graph.mechanisms:
        console.print(f"  special: {kind} {cause} -> {effect}", highlight=False)
