"""Which image stands for a program, and is it here? An image that is not is never pulled behind the user's back."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import docker.errors

from harness.engines.containers.api import asking, client
from harness.engines.references import image_reference, image_references, other_images
from harness.errors import Refused
from harness.system.topology import NodeSpec

TOXIPROXY = "toxiproxy"
CLOCK_LIBRARY = "/usr/local/lib/libfaketime.so.1"
CLOCK_LABEL = "assay.clock"


def reference(program: str, version: str | None = None) -> str:
    """The image reference of a program. Raises Refused for a program that has none."""
    try:
        return image_reference(program, version)
    except KeyError as error:
        raise Refused(
            f"there is no image for {program!r}",
            cure="run it on the engine `processes`, or add it to docker/images.env",
        ) from error


def references(specs: Iterable[NodeSpec]) -> dict[str, str]:
    """Image references of the nodes, by node name."""
    return {spec.name: reference(spec.program, spec.version) for spec in specs}


def identity(image: str) -> dict[str, object] | None:
    """Reference, id and digests of an image that is here; None if it is not."""
    with asking(f"look for the image {image}"):
        try:
            found = client().images.get(image)
        except docker.errors.ImageNotFound:
            return None
    return {"reference": image, "id": found.id, "digests": list(found.attrs.get("RepoDigests") or [])}


def missing(images: Iterable[str]) -> str | None:
    """Which of these images are not here, with the cure; None if all are."""
    gone = sorted({image for image in images if identity(image) is None})
    if not gone:
        return None
    return str(Refused(f"the container engine has no image {', '.join(gone)}", cure=_cure(gone)))


def clockless(program: str, image: str) -> str | None:
    """Why a node of this image can have no clock of its own, with the cure; None if it can."""
    if program == "nats":
        return str(
            Refused(
                "a NATS server has no clock of its own: it is a static Go program that asks the kernel for the time, "
                "so the library that sets a program's time apart is never loaded",
                cure="use RabbitMQ",
            )
        )
    with asking(f"look for the image {image}"):
        labels = client().images.get(image).labels
    if CLOCK_LABEL in labels:
        return None
    return str(
        Refused(f"the image {image} holds no libfaketime", cure="ASSAY_IMAGES=build make setup makes one that does")
    )


def _cure(gone: Collection[str]) -> str:
    """What makes these images, or brings them here."""
    always, others = set(image_references().values()), set(other_images().values())
    cures = []
    if always.intersection(gone):
        cures.append("run `make setup`, which makes them")
    if others.intersection(gone):
        cures.append("run `make versions`, which makes those of other versions")
    if foreign := sorted(set(gone) - always - others):
        kept = ", ".join(sorted(key.replace("@", " ") for key in other_images()))
        cures.append(f"docker pull or docker load {', '.join(foreign)}, or use a version that set-up makes: {kept}")
    return "; ".join(cures)
