"""Small radiographs as files, and what DCMTK makes of them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)


def film(pixels: NDArray[np.integer], **attributes: Any) -> Dataset:
    """A DX image of these stored values, 12 bits MONOCHROME2 unless attributes say otherwise; None leaves one out."""
    bits = 8 * pixels.dtype.itemsize
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stated = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        # Fixed: a property test needs the same bytes every time.
        "SOPInstanceUID": "2.25.1",
        "Modality": "DX",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": 12 if bits == 16 else bits,
        "HighBit": 11 if bits == 16 else bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **attributes,
    }
    for keyword, value in stated.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def written(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write the film uncompressed in this transfer syntax."""
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == ExplicitVRBigEndian:
        swapped = np.frombuffer(dataset.PixelData, f"<u{dataset.BitsAllocated // 8}").byteswap()
        dataset.PixelData = swapped.tobytes()
    dataset.save_as(
        path,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )
    return path


def shown_by_dcmtk(path: Path, folder: Path, *options: str) -> NDArray[np.float64]:
    """The image as dcmj2pnm renders it with its first window (or `options`), 0..1; skips where it is not installed."""
    if shutil.which("dcmj2pnm") is None:
        pytest.skip("dcmj2pnm is not installed (Debian package dcmtk)")
    target = folder / "shown.pgm"
    how = options or ("--use-window", "1")
    command = ["dcmj2pnm", "--no-overlays", *how, "--write-16-bit-pnm", str(path), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    content = b" ".join(line.split(b"#")[0] for line in target.read_bytes().splitlines()).split()
    columns, rows, highest = (int(word) for word in content[1:4])
    return np.array(content[4:], np.float64).reshape(rows, columns) / highest
