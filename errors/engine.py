"""Engines: choosing, building and running them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .base import VtpError, listed


class EngineError(VtpError):
    """Something about the engine that runs the graphs."""


class EngineUnknown(EngineError, LookupError):
    """No engine of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"engine {name!r} is unknown; known: {', '.join(known)}")


class EngineUnavailable(EngineError, RuntimeError):
    """The engine exists, but cannot run here."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"engine {name!r} cannot run here: {reason}")


class RunFailed(EngineError, RuntimeError):
    """A graph that was loaded does not run."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"engine {name!r} could not run a graph: {reason}; if the manifest was edited, "
            "export the model again"
        )


class VerifyFailed(EngineError, ArithmeticError):
    """The golden sample came out differently."""

    def __init__(self, graph: str, engine: str, measured: str, tolerance: str) -> None:
        self.graph, self.measured, self.tolerance = graph, measured, tolerance
        super().__init__(
            f"graph {graph!r} on engine {engine!r} deviates from the golden sample: {measured} "
            f"(tolerance: {tolerance})"
        )


class BeyondLimits(EngineError, ValueError):
    """More than a built engine takes, or can be built for."""

    def __init__(self, what: str, given: int, limit: int, remedy: str) -> None:
        super().__init__(f"{what}: {given}, but the limit is {limit}; {remedy}")


class TargetMissing(EngineError, ValueError):
    """A bundle without the graphs that a library takes."""

    def __init__(self, library: str, target: str, carried: Sequence[str]) -> None:
        wanted = " ".join(f"--target {name}" for name in (*carried, target))
        super().__init__(
            f"{library} needs graphs of target {target!r}, but the bundle has only "
            f"{listed(carried)}: export the model again with {wanted}"
        )


class BuildFailed(EngineError, RuntimeError):
    """An engine could not be built."""

    def __init__(self, graph: str, engine: str, reason: str) -> None:
        super().__init__(f"{engine} cannot build graph {graph!r}: {reason}")


class BuildKilled(BuildFailed, MemoryError):
    """The process that built an engine was killed, as a system does that has no memory left."""

    def __init__(self, graph: str, engine: str, estimate: int, available: int) -> None:
        super().__init__(
            graph,
            engine,
            "the system killed the build, most likely because memory ran out (about "
            f"{estimate / 1e9:.1f} GB are needed, {available / 1e9:.1f} GB were free): close other "
            "programs, add swap, or build with a smaller --max-tokens",
        )


class KernelUnavailable(EngineError, RuntimeError):
    """The compiled selection kernel cannot run on this machine, or its launch was refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the CUDA kernel of vtp::TopKTokens cannot run here: {reason}")


class VariantMissing(EngineError, LookupError):
    """No engines of that kind have been built into the bundle."""

    def __init__(self, bundle: object, engine: str, built: Iterable[str]) -> None:
        found = listed(built) or "none"
        super().__init__(
            f"{str(bundle)!r} has no engines for {engine!r} (built: {found}): build them with "
            f"vtp build {bundle} --engine {engine}"
        )


class VariantMismatch(EngineError, RuntimeError):
    """Engines that were built for something else than what is here."""

    def __init__(self, variant: str, what: str, built: object, here: object, rebuild: str) -> None:
        super().__init__(
            f"the engines of variant {variant!r} were built for {what} {built}, but this machine "
            f"has {here}: {rebuild}"
        )
