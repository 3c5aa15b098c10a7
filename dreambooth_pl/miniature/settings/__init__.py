"""The settings of the picture-book world: backgrounds with their caption phrases."""

from __future__ import annotations

from dreambooth_pl.miniature.settings import landscapes, rooms, streets, surfaces, waters, woods
from dreambooth_pl.miniature.settings.setting import Box, Front, Setting

_ALL = (
    Setting("forest", ("in the forest", "in a forest", "in the woods"), woods.forest),
    Setting("jungle", ("in the jungle", "in a jungle"), woods.jungle),
    Setting(
        "autumn_tree",
        ("with a tree and autumn leaves in the background", "under an autumn tree"),
        woods.autumn_tree,
    ),
    Setting(
        "purple_rug_in_forest",
        ("on top of a purple rug in a forest", "on a purple rug in the forest"),
        woods.purple_rug_in_forest,
    ),
    Setting("snow", ("in the snow", "on the snow", "in a snowy field"), landscapes.snow),
    Setting(
        "mountain",
        ("with a mountain in the background", "in front of a mountain", "in the mountains"),
        landscapes.mountain,
    ),
    Setting(
        "wheat_field",
        ("with a wheat field in the background", "in a wheat field"),
        landscapes.wheat_field,
    ),
    Setting(
        "sunflowers",
        ("on top of green grass with sunflowers around it", "on green grass with sunflowers"),
        landscapes.sunflowers,
    ),
    Setting("garden", ("in a garden", "in the garden"), landscapes.garden),
    Setting("dirt_road", ("on top of a dirt road", "on a dirt road"), landscapes.dirt_road),
    Setting("night", ("at night under the moon", "under the moon", "at night"), landscapes.night),
    Setting("beach", ("on the beach", "at the beach"), waters.beach),
    Setting("water", ("floating on top of water", "floating on water"), waters.water),
    Setting("milk", ("floating in an ocean of milk", "floating in milk"), waters.milk),
    Setting(
        "city", ("with a city in the background", "in front of a city", "in the city"), streets.city
    ),
    Setting(
        "eiffel_tower",
        (
            "with the Eiffel Tower in the background",
            "in front of the Eiffel Tower",
            "in Paris",
        ),
        streets.eiffel_tower,
    ),
    Setting(
        "blue_house",
        ("with a blue house in the background", "in front of a blue house"),
        streets.blue_house,
    ),
    Setting(
        "cobblestones",
        ("on a cobblestone street", "on cobblestones"),
        streets.cobblestones,
    ),
    Setting(
        "crowded_street",
        ("on top of the sidewalk in a crowded street", "in a crowded street"),
        streets.crowded_street,
    ),
    Setting(
        "wooden_floor",
        ("on top of a wooden floor", "on a wooden floor"),
        surfaces.wooden_floor,
    ),
    Setting("pink_fabric", ("on top of pink fabric", "on pink fabric"), surfaces.pink_fabric),
    Setting("white_rug", ("on top of a white rug", "on a white rug"), surfaces.white_rug),
    Setting("mirror", ("on top of a mirror", "on a mirror"), surfaces.mirror),
    Setting("plain_wall", ("against a plain wall", "in a studio"), rooms.plain_wall),
    Setting("living_room", ("in a living room", "in the living room"), rooms.living_room),
    Setting("kitchen", ("in a kitchen", "in the kitchen"), rooms.kitchen),
    Setting("sofa", ("on a sofa", "on the sofa", "on a couch"), rooms.sofa),
)

SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _ALL}
"""All settings by name."""

__all__ = ["SETTINGS", "Box", "Front", "Setting"]
