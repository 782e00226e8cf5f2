"""The vocabulary of findings is fit for DICOM, and says nothing that its codes do not mean."""

from functools import cache

from pydicom.sr.codedict import codes

from schemas.codes import CXR_LT, PRIVATE_SCHEME, Category, Device, Finding, Landmark, Segment

#: SNOMED CT concepts that the dictionaries of DICOM lack: decision 4.
NOT_IN_DICTIONARIES = {"46621007", "95436008", "8186001", "233604007", "33737001", "17102003", "3341006", "44029006"}


def test_every_finding_has_a_code_and_a_site_of_its_own_that_dicom_can_carry() -> None:
    for finding in Finding:
        for code in (finding.code, finding.site):
            assert 0 < len(code.value) <= 16
            assert 0 < len(code.meaning) <= 64
            assert code.meaning.isascii()
    assert len({(each.code.scheme, each.code.value) for each in Finding}) == len(Finding)
    assert len({each.code.meaning.lower() for each in Finding}) == len(Finding)


def test_a_standard_code_means_what_its_dictionary_says() -> None:
    for finding in Finding:
        for code in (finding.code, finding.site):
            if code.scheme == PRIVATE_SCHEME or code.value in NOT_IN_DICTIONARIES:
                continue
            assert code.meaning.lower() in _dictionary(code.scheme)[code.value], code


def test_snomed_numbers_have_no_slip_of_the_pen() -> None:
    assert _is_snomed_number("46621007") and not _is_snomed_number("46621008") and not _is_snomed_number("46612007")
    for finding in Finding:
        for code in (finding.code, finding.site):
            if code.scheme == "SCT":
                assert _is_snomed_number(code.value), code


def test_devices_and_regions_have_codes_of_their_own_that_mean_what_they_say() -> None:
    codes_of = [code for device in Device for code in (device.code, device.site)]
    codes_of += [segment.code for segment in Segment]
    for code in codes_of:
        assert code.scheme == "SCT" and _is_snomed_number(code.value), code
        if code.value not in NOT_IN_DICTIONARIES:
            assert code.meaning.lower() in _dictionary("SCT")[code.value], code
    assert len({device.code.value for device in Device}) == len(Device)
    assert len({segment.code.value for segment in Segment}) == len(Segment)
    for device in Device:
        assert device.segment.code == device.code and device.tip in Landmark


def test_the_published_head_has_forty_findings_in_alphabetical_order() -> None:
    assert len(set(CXR_LT)) == len(CXR_LT) == 40
    assert set(CXR_LT) == set(Finding)
    names = ["calcification_of_the_aorta" if each == "aortic_calcification" else each.value for each in CXR_LT]
    assert names == sorted(names)
    assert [CXR_LT[index] for index in (3, 24, 31, 39)] == [
        Finding.AORTIC_CALCIFICATION,
        Finding.NORMAL,
        Finding.PNEUMOTHORAX,
        Finding.TUBERCULOSIS,
    ]


def test_a_normal_chest_and_support_devices_are_no_pathology_and_ask_for_nobody() -> None:
    harmless = [each for each in Finding if not each.is_pathology]
    assert harmless == [Finding.NORMAL, Finding.SUPPORT_DEVICES]
    assert [each.category for each in harmless] == [None, None]


def test_no_score_of_a_finding_alone_makes_a_study_immediate() -> None:
    categories = {each.category for each in Finding}
    assert categories == {Category.URGENT, Category.SOON, None}
    assert Finding.PNEUMOTHORAX.category is Category.URGENT


@cache
def _dictionary(scheme: str) -> dict[str, set[str]]:
    """Code value -> what pydicom's dictionary of the scheme calls the concept, lower case."""
    meanings: dict[str, set[str]] = {}
    for concept in getattr(codes, scheme).concepts.values():
        # SNOMED's fully specified names end with their hierarchy: "Lung structure (body structure)".
        meanings.setdefault(concept.value, set()).add(concept.meaning.lower().split(" (")[0])
    return meanings


def _is_snomed_number(value: str) -> bool:
    """Whether the last digit is the check digit of the others (Verhoeff; SNOMED CT identifiers)."""
    check = 0
    for place, digit in enumerate(reversed(value)):
        turned = int(digit)
        for _ in range(place % 8):
            turned = int("1576283094"[turned])
        check = _times(check, turned)
    return check == 0


def _times(one: int, other: int) -> int:
    """Multiplication in the dihedral group of order 10: 0 to 4 are turns, 5 to 9 reflections."""
    turn = (one + other) % 5 if one < 5 else (one - other) % 5
    return turn + 5 * ((one < 5) != (other < 5))
