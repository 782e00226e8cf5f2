"""What is expected of each radiography file of ../shared/data/dicom, decided by looking at its header and pixels."""

from dataclasses import dataclass
from pathlib import Path

from node.intake.routing import RouteReason

#: The folder beside the checkout; nothing of it may be copied into the repository.
FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"


@dataclass(frozen=True)
class Expected:
    reason: RouteReason
    #: Whether `read_pixels` gives an image; the rest end in PixelDataError.
    readable: bool = True


_SELECTED = Expected(RouteReason.SELECTED)
_OTHER_BODY_PART = Expected(RouteReason.OTHER_BODY_PART)
_OTHER_SOP_CLASS = Expected(RouteReason.OTHER_SOP_CLASS)

#: By the column "file" of index.csv, for adults (minimum age 18 years).
EXPECTED: dict[str, Expected] = {
    # Frontal chest radiographs.
    "pydicom-data/RG1_J2KI.dcm": _SELECTED,
    "pylibjpeg-data/966_fixed.dcm": _SELECTED,
    "dwv/gdcm-CR-MONO1-10-chest.dcm": _SELECTED,
    # The JPEG 2000 codestream is broken.
    "pylibjpeg-data/966.dcm": Expected(RouteReason.SELECTED, readable=False),
    # Chest, but 32 x 32 and without Pixel Data; and a pelvis without.
    "pydicom/chrJapMulti.dcm": Expected(RouteReason.NO_PIXEL_DATA, readable=False),
    "orthanc-tests/CR000000.dcm": Expected(RouteReason.NO_PIXEL_DATA, readable=False),
    # A dog: the console's menu says CANINE LATERAL THORAX.
    "highdicom/dx_image.dcm": Expected(RouteReason.NON_HUMAN),
    # Wrapped anew as Secondary Capture by a research export, with modality, body part and view kept.
    "torchxrayvision/1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm": _SELECTED,
    # Cervical spine, cut to 16 x 16 pixels.
    "pydicom/CR1__6154": _OTHER_BODY_PART,
    "pydicom/CR2__6247": _OTHER_BODY_PART,
    # Distal tibia.
    "pydicom-data/RG3_J2KI.dcm": _OTHER_BODY_PART,
    "pydicom-data/RG3_J2KR.dcm": _OTHER_BODY_PART,
    "dicom-test-files/RG3_JLSN": _OTHER_BODY_PART,
    "dicom-test-files/RG3_JPLL": _OTHER_BODY_PART,
    "dicom-test-files/RG3_JPLY": _OTHER_BODY_PART,
    # Hand, hip; the "broken" RG2_JPLY has a marker that GDCM and DCMTK forgive.
    "pylibjpeg-data/NM_Kakadu44_SOTmarkerincons.dcm": _OTHER_BODY_PART,
    "pylibjpeg-data/RG2_JPLY.dcm": _OTHER_BODY_PART,
    "pylibjpeg-data/RG2_JPLY_fixed.dcm": _OTHER_BODY_PART,
    "dicom-test-files/RG2_J2KI": _OTHER_BODY_PART,
    # Teeth: said by the series description alone.
    "fo-dicom/CR-ModalitySequenceLUT.dcm": _OTHER_BODY_PART,
    # Cerebral angiograms as Secondary Capture.
    "dicom-test-files/XA1_J2KI": _OTHER_SOP_CLASS,
    "dicom-test-files/XA1_J2KR": _OTHER_SOP_CLASS,
    "dicom-test-files/XA1_JLSL": _OTHER_SOP_CLASS,
    "dicom-test-files/XA1_JPLL": _OTHER_SOP_CLASS,
    "dicom-test-files/XA1_JPLY": _OTHER_SOP_CLASS,
    # Fluoroscopy of a shoulder, mammography, a test pattern.
    "orthanc-tests/KarstenHilbertRF.dcm": _OTHER_SOP_CLASS,
    "fo-dicom/OutOfBoundsOverlay.dcm": _OTHER_SOP_CLASS,
    "DICOMSamples/MG_Explicit_Little.dcm": _OTHER_SOP_CLASS,
}
