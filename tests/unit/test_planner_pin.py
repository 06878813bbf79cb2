from farm.matrix import expansion, loads
from farm.model import AttemptKey, Host, ImageSpec, Offer, Plan, ResolvedSource, Submission
from farm.orders import order_for, pin
from farm.planner import plan

MATRIX = """
name: aliases
axes:
  image: [debian/stable, debian-12]
  arch: [amd64, s390x, vax]
  bug: [on, off]
guest: {packages: [gcc]}
test: "true"
"""


def planned() -> Plan:
    offers = tuple(Offer(hypervisor="qemu", arch=arch, emulated=True) for arch in ("amd64", "s390x"))
    host = Host(name="here", uri="qemu:///embed", vcpus=4, memory_mib=8192, offers=offers)
    matrix = loads(MATRIX, file="m.yaml").matrix
    return plan(matrix, expansion(matrix), (host,))


class Resolver:
    """Knows one alias; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[ImageSpec] = []

    def __call__(self, spec: ImageSpec) -> ImageSpec | None:
        self.asked.append(spec)
        known = spec.name == "debian/stable"
        return spec.model_copy(update={"name": "debian-13", "digest": f"of {spec.arch}"}) if known else None


def test_every_image_is_asked_about_once_and_none_that_fits_nowhere() -> None:
    resolver = Resolver()
    pin(planned(), resolver)
    asked = [(spec.name, spec.arch, spec.packages) for spec in resolver.asked]
    assert sorted(asked) == [
        ("debian-12", "amd64", ("gcc",)),
        ("debian-12", "s390x", ("gcc",)),
        ("debian/stable", "amd64", ("gcc",)),
        ("debian/stable", "s390x", ("gcc",)),
    ]


def test_cells_of_an_alias_are_pinned_and_the_others_are_as_they_were() -> None:
    before = planned()
    after = pin(before, Resolver())
    assert [placement.cell for placement in after.placements] == [placement.cell for placement in before.placements]
    for placement in after.placements:
        if placement.cell.image == "debian/stable" and placement.hosts:
            assert placement.pinned == ImageSpec(
                name="debian-13", arch=placement.cell.arch, packages=("gcc",), digest=f"of {placement.cell.arch}"
            )
        else:
            assert placement.pinned is None


def test_a_worker_gets_the_image_that_was_pinned() -> None:
    after = pin(planned(), Resolver())
    source = ResolvedSource(kind="folder", description="x", digest="0", files=1, bytes=1, archive="/tmp/x.tar")
    submission = Submission(plan=after, source=source)
    pinned = next(placement for placement in after.placements if placement.pinned)
    order = order_for(submission, pinned, AttemptKey(run="r-1", cell=pinned.cell.id, number=1))
    assert order.image == pinned.pinned
    assert order.env["FARM_IMAGE"] == "debian/stable"
