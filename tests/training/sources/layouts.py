"""Tiny data sets in the layouts of their publishers, made up on the spot."""

import gzip
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UID = "1.2.826.0.1.3680043.8.498.1"


def chest(seed: int, rows: int = 240, columns: int = 200) -> NDArray[np.uint8]:
    """Something with the greys of a chest, another one for each seed: dark lungs, bright spine, ribs and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    u, v = x / columns, y / rows
    lungs = sum(np.exp(-(((u - at) / 0.16) ** 2 + ((v - 0.45) / 0.32) ** 2)) for at in (0.28, 0.72))
    phase, tilt = random.uniform(0, 6), random.uniform(-1, 1)
    ribs = 0.12 * np.sin(40 * v + 8 * tilt * (u - 0.5) ** 2 + phase)
    texture = 0.1 * np.asarray(
        Image.fromarray(random.normal(size=(24, 20)).astype(np.float32)).resize(
            (columns, rows), Image.Resampling.BICUBIC
        )
    )
    image = 0.75 - 0.5 * lungs + ribs * lungs + texture
    return np.asarray(np.clip(image, 0, 1) * 255).astype(np.uint8)


def write_image(path: Path, seed: int, rows: int = 240, columns: int = 200) -> Path:
    """A chest as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(chest(seed, rows, columns)).save(path)
    return path


def write_mask(path: Path, left: bool, side: int = 64) -> Path:
    """A block in the left or the right half of the image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((side, side), np.uint8)
    mask[8:-8, 4 : side // 2 - 4] = 255
    Image.fromarray(mask if left else mask[:, ::-1].copy()).save(path)
    return path


def kermany(root: Path) -> Path:
    names = {
        "train/NORMAL": ["IM-0115-0001", "NORMAL2-IM-0115-0002"],
        "train/PNEUMONIA": ["person1_bacteria_1", "person2_virus_7"],
        "val/PNEUMONIA": ["person1950_bacteria_4881"],
        "test/PNEUMONIA": ["person1_virus_6"],
    }
    for number, (folder, files) in enumerate(names.items()):
        for index, name in enumerate(files):
            write_image(root / "chest_xray" / folder / f"{name}.jpeg", 10 * number + index)
    return root


def nih(root: Path) -> Path:
    for number, name in enumerate(("00000001_000", "00000001_001", "00000002_000")):
        write_image(root / f"images_{number + 1:03d}" / "images" / f"{name}.png", 100 + number)
    # As published: the columns behind Bbox are broken, and one row more than images that were fetched.
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,Ignored"
    (root / "Data_Entry_2017.csv").write_text(
        f"{header}\n00000001_000.png,Cardiomegaly|Effusion,0,1,058Y,M,PA,\n00000001_001.png,No Finding,1,1,412,M,AP,\n"
        "00000002_000.png,Infiltration,0,2,81,F,PA,\n00000003_000.png,Hernia,0,3,81,F,PA,\n"
    )
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (root / "test_list.txt").write_text("00000002_000.png")
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000002_000.png,Infiltrate,256,512,512,256,,,\n"
    )
    return root


def covid_chestxray(root: Path) -> Path:
    rows = [
        "2,M,65,Pneumonia/Viral/COVID-19,Y,N,AP Supine,X-ray,images,a.jpg,CC BY-NC-SA",
        ",F,,No Finding,,,PA,X-ray,images,b.png,CC BY 3.0",
        ",,30,todo,,,L,X-ray,images,c.png,",
        "2,M,65,Pneumonia/Viral/COVID-19,Y,Y,Axial,CT,volumes,d.nii.gz,CC BY",
    ]
    header = "patientid,sex,age,finding,intubated,intubation_present,view,modality,folder,filename,license"
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    for number, name in enumerate(("a.jpg", "b.png", "c.png")):
        write_image(root / "images" / name, 200 + number)
    return root


def covidx(root: Path) -> Path:
    write_image(root / "train" / "one image.png", 300)
    write_image(root / "train" / "two.png", 301)
    write_image(root / "test" / "three.png", 302)
    (root / "train_COVIDx9A.txt").write_text("7 one image.png normal rsna\n7 two.png COVID-19 ricord\n")
    (root / "test_COVIDx9A.txt").write_text("8 three.png pneumonia rsna\n")
    return root


def chexpert(root: Path) -> Path:
    labels = (
        "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
        "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
    )
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{labels}"
    prefix = "CheXpert-v1.0-small"
    for number, path in enumerate(
        (
            "train/patient00001/study1/view1_frontal.jpg",
            "train/patient00002/study2/view2_lateral.jpg",
            "valid/patient64541/study1/view1_frontal.jpg",
        )
    ):
        write_image(root / path, 400 + number)
    (root / "train.csv").write_text(
        f"{header}\n{prefix}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0\n"
        f"{prefix}/train/patient00002/study2/view2_lateral.jpg,Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
    )
    (root / "valid.csv").write_text(
        f"{header}\n{prefix}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA" + ",0.0" * 14 + "\n"
    )
    return root


def mimic(root: Path) -> Path:
    write_image(root / "files/p10/p10000032/s50414267/02aa804e.jpg", 500)
    tables = {
        "metadata": "dicom_id,subject_id,study_id,ViewPosition\n02aa804e,10000032,50414267,LATERAL\n",
        "split": "dicom_id,study_id,subject_id,split\n02aa804e,50414267,10000032,validate\n",
        "chexpert": "study_id,Atelectasis,Cardiomegaly,No Finding,Pneumonia\n50414267,1.0,-1.0,,0.0\n",
    }
    for kind, text in tables.items():
        (root / f"mimic-cxr-2.0.0-{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return root


def ranzcr(root: Path) -> Path:
    header = (
        "StudyInstanceUID,ETT - Abnormal,ETT - Borderline,ETT - Normal,NGT - Abnormal,NGT - Borderline,"
        "NGT - Incompletely Imaged,NGT - Normal,CVC - Abnormal,CVC - Borderline,CVC - Normal,"
        "Swan Ganz Catheter Present,PatientID"
    )
    root.mkdir(parents=True, exist_ok=True)
    write_image(root / "train" / f"{UID}.jpg", 600)
    write_image(root / "train" / f"{UID}1.jpg", 601)
    (root / "train.csv").write_text(
        f"{header}\n{UID},1,0,0,0,0,1,0,0,1,1,0,bf4c6da3c\n{UID}1,0,0,0,0,0,0,0,0,0,0,1,3fc1c97e5\n"
    )
    points = json.dumps([[10, 20], [11, 40], [12, 60]])
    (root / "train_annotations.csv").write_text(
        f'StudyInstanceUID,label,data\n{UID},ETT - Abnormal,"{points}"\n{UID}1,Swan Ganz Catheter Present,"{points}"\n'
    )
    return root


def jsrt(root: Path) -> Path:
    (root / "All247images").mkdir(parents=True)
    for name, at in (("JPCLN001", 0), ("JPCNN001", 1000)):
        # Bones are low numbers in these files.
        values = np.full((2048, 2048), 4095 - at, ">u2")
        values[:1024] = 0
        values.tofile(root / "All247images" / f"{name}.IMG")
    (root / "CLNDAT_EN.txt").write_text(
        "JPCLN001.IMG\t5\t15\t53\tmale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\r\n"
    )
    (root / "CNNDAT_EN.TXT").write_text("JPCNN001.IMG\t66\tfemale\tnon-nodule\r\n")
    masks = root / "scratch" / "fold1" / "masks"
    # As if the names were the patient's sides.
    write_mask(masks / "right lung" / "JPCLN001.gif", left=True)
    write_mask(masks / "left lung" / "JPCLN001.gif", left=False)
    write_mask(masks / "heart" / "JPCLN001.gif", left=False)
    write_mask(masks / "left clavicle" / "JPCLN001.gif", left=False)
    write_mask(masks / "right clavicle" / "JPCLN001.gif", left=True)
    return root


def montgomery(root: Path) -> Path:
    write_image(root / "CXR_png" / "MCUCXR_0001_0.png", 700)
    write_image(root / "CXR_png" / "MCUCXR_0104_1.png", 701)
    readings = root / "ClinicalReadings"
    readings.mkdir()
    (readings / "MCUCXR_0001_0.txt").write_text("Patient's Sex: F\nPatient's Age: 027Y\nnormal\n")
    # As if the names were the image's sides.
    write_mask(root / "ManualMask" / "leftMask" / "MCUCXR_0001_0.png", left=True)
    write_mask(root / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png", left=False)
    return root


def shenzhen(root: Path) -> Path:
    write_image(root / "CXR_png" / "CHNCXR_0327_1.png", 702)
    (root / "ClinicalReadings").mkdir()
    (root / "ClinicalReadings" / "CHNCXR_0327_1.txt").write_text("male 37yrs\nbilateral PTB\n")
    write_mask(root / "mask" / "CHNCXR_0327_1_mask.png", left=True)
    return root


def folder(root: Path, patients: int = 4, images: int = 2) -> Path:
    """`images` of each patient, each image another one."""
    rows = ["file,patient,view,age_years,sex,licence,mask.lungs,x.carina,y.carina,pneumothorax,edema"]
    for patient in range(patients):
        for image in range(images):
            name = f"p{patient}-{image}.png"
            write_image(root / name, 1000 + 10 * patient + image)
            mask = f"m{patient}.png" if image == 0 else ""
            if mask:
                write_mask(root / mask, left=True)
            rows.append(f"{name},P{patient},PA,{40 + patient},F,CC BY 4.0,{mask},100.5,80,{patient % 2},")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root
