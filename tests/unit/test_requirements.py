"""What a matrix requires of hosts."""

from __future__ import annotations

from typing import Any

import pytest

from farm.errors import MatrixError
from farm.matrix import expansion, loads
from farm.model import Host, Matrix, Offer, Plan, Processor, Submission
from farm.orders import order_for
from farm.places import Places
from farm.planner import misfit, plan
from tests.unit.test_planner import KEY, SOURCE

XEON = Processor(
    processors=8,
    cores=4,
    family=6,
    model=85,
    stepping=7,
    model_name="Intel(R) Xeon(R) Gold 6230",
    vendor_name="GenuineIntel",
    flags=("avx2", "avx512f", "vmx"),
)
GUEST = Processor(
    processors=2, cores=2, model_name="AMD EPYC", vendor_name="AuthenticAMD", flags=("hypervisor", "avx2")
)
QEMU = Offer(hypervisor="qemu", arch="amd64", emulated=True)
KVM = Offer(hypervisor="kvm", arch="amd64", emulated=False)


def host(name: str, *offers: Offer, **more: Any) -> Host:
    return Host(name=name, uri="test:///", vcpus=8, memory_mib=8192, offers=offers, **more)


BIG = host("big", KVM, QEMU, processor=XEON, labels={"rack": "b2"})
SMALL = host("small", QEMU, processor=GUEST, labels={"rack": "a1"})
DUMB = host("dumb", KVM)


def planned(requires: dict[str, Any], *hosts: Host) -> Plan:
    axes = {"image": ["a"], "arch": ["amd64"]}
    matrix = Matrix.model_validate({"name": "x", "axes": axes, "test": "x", "requires": requires})
    return plan(matrix, expansion(matrix), hosts)


MET: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a label": {"host": {"rack": "b2"}},
    "a label that is not": {"host": {"rack": "!= a1"}},
    "a pattern of labels": {"host": {"rack": "~ b.*"}},
    "a name": {"hostname": "~ b"},
    "memory": {"memory": ">= 8 GB"},
    "memory to the MiB": {"memory": "8192"},
    "processors": {"cpu": {"processors": "> 7"}},
    "cores": {"cpu": {"cores": 4}},
    "a model": {"cpu": {"family": 6, "model": 85, "stepping": "< 8"}},
    "what it is called": {"cpu": {"model-name": "~ .*Xeon.*", "vendor-name": "GenuineIntel"}},
    "flags": {"cpu": {"flag": ["avx2", "= avx512f", "!= sve", "not contains hypervisor", "contains vmx"]}},
    "hardware that virtualises": {"virtualization": {"is-supported": True}},
    "no guest": {"virtualization": {"is-virtualized": False}},
    "a hypervisor": {"virtualization": {"hypervisor": "~ k.m"}},
}


@pytest.mark.parametrize("case", MET)
def test_a_host_that_is_what_is_required_is_taken(case: str) -> None:
    (placement,) = planned(MET[case], BIG).placements
    assert (placement.hosts, placement.hypervisor, placement.problem) == (("big",), "kvm", "")


FAILED: dict[str, tuple[dict[str, Any], Host, str]] = {
    "a label": ({"host": {"rack": "b2"}}, SMALL, "small has rack=a1, not b2"),
    "no label": ({"host": {"zone": "~ x.*"}}, SMALL, "small has no label zone, not ~ x.*"),
    "a name": ({"hostname": "big"}, SMALL, "small is not called big"),
    "memory": ({"memory": "> 8 GB"}, SMALL, "small has 8192 MiB for guests, not > 8 GB"),
    "cores": ({"cpu": {"cores": ">= 4"}}, SMALL, "small has 2 cores, not >= 4"),
    "a model": ({"cpu": {"model": 85}}, SMALL, "small has a CPU of model 0, not 85"),
    "a name of a CPU": (
        {"cpu": {"model-name": "~ .*Xeon"}},
        SMALL,
        "small has a CPU whose model name is AMD EPYC, not ~ .*Xeon",
    ),
    "a flag": ({"cpu": {"flag": ["avx512f"]}}, SMALL, "small has a CPU without avx512f"),
    "a flag too many": ({"cpu": {"flag": ["!= avx2"]}}, SMALL, "small has a CPU with avx2"),
    "an unknown CPU": ({"cpu": {"cores": 4}}, DUMB, "dumb does not say what CPU it has"),
    "emulation only": (
        {"virtualization": {"is-supported": True}},
        SMALL,
        "small has no hypervisor that does not emulate",
    ),
    "hardware": ({"virtualization": {"is-supported": False}}, BIG, "big has hardware that virtualises"),
    "a guest": ({"virtualization": {"is-virtualized": False}}, SMALL, "small is a guest of another itself"),
    "a hypervisor": (
        {"virtualization": {"hypervisor": "kvm"}},
        SMALL,
        "small qemu is not the hypervisor that is required (kvm)",
    ),
}


@pytest.mark.parametrize("case", FAILED)
def test_the_plan_says_which_host_fails_which_requirement(case: str) -> None:
    requires, lacking, sentence = FAILED[case]
    (placement,) = planned(requires, lacking).placements
    assert placement.hosts == ()
    assert placement.problem == f"no host fits: {sentence}"


def test_a_host_that_is_left_out_is_named_where_others_are_taken() -> None:
    made = planned({"cpu": {"cores": ">= 4", "flag": ["avx512f"]}}, BIG, SMALL)
    assert [placement.hosts for placement in made.placements] == [("big",)]
    assert made.warnings == ("requires: small is left out: it has 2 cores, not >= 4; has a CPU without avx512f",)


def test_auto_takes_the_fastest_that_is_admitted() -> None:
    (placement,) = planned({"virtualization": {"hypervisor": "!= kvm"}}, BIG).placements
    assert placement.hypervisor == "qemu"


def test_an_order_goes_only_to_the_hosts_that_meet_the_requirements() -> None:
    made = planned({"host": {"rack": "b2"}}, BIG, SMALL)
    (placement,) = made.placements
    assert order_for(Submission(plan=made, source=SOURCE), placement, KEY).only == ("big",)


def test_what_is_required_means_the_same_when_it_comes_back_from_the_store() -> None:
    submission = Submission(plan=planned({"host": {"rack": "b2"}, "memory": ">= 1 MB"}, BIG), source=SOURCE)
    stored = Submission.model_validate(submission.model_dump(mode="json", by_alias=True)).plan
    silent = BIG.model_copy(update={"processor": None})
    assert misfit(stored.placements[0], stored.matrix, silent) == ""
    assert Places((silent, SMALL)).of(stored.placements[0], stored.matrix) == ("big",)


WRONG = {
    "cpu:\n    cores: many": "m.yaml:6:12: requires.cpu.cores: expected a number",
    "memory: a lot": "m.yaml:5:11: requires.memory: expected a size",
    "cpu:\n    flag: [AVX]": "m.yaml:6:12: requires.cpu.flag[0]: expected a flag of a CPU",
    "cpu:\n    model-name: '~ ('": "m.yaml:6:17: requires.cpu.model-name: no regular expression",
    "virtualisation: {}": "m.yaml:5:3: unknown key 'virtualisation'; did you mean 'virtualization'?",
    "virtualization:\n    is-supported: x": "m.yaml:6:19: requires.virtualization.is-supported: expected true or false",
    "cpu:\n    core: 4": "m.yaml:6:5: unknown key 'core'; did you mean 'cores'?",
    "host: {-rack: b2}": "m.yaml:5:10: '-rack' is not",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_its_place(text: str) -> None:
    whole = f"name: x\naxes: {{image: [a], arch: [b]}}\ntest: x\nrequires:\n  {text}\n"
    with pytest.raises(MatrixError) as caught:
        loads(whole, file="m.yaml")
    assert WRONG[text] in str(caught.value)
