"""The pluggy markers of the project: all that a hook plugin needs of the registry."""

import pluggy

hookspec = pluggy.HookspecMarker("dmf")
hookimpl = pluggy.HookimplMarker("dmf")
