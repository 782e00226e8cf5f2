"""The findings that a classification head can score, each with its code, its site and how soon it wants a reader.

Part of the vocabulary, imported by way of schemas/codes.py. Why a code and why a category: docs/decisions, 004.
"""

from enum import StrEnum

from schemas.code import Code, private


class Category(StrEnum):
    """Actionable finding category (CID 7035): how soon a finding wants a reader."""

    #: ACR category 1: minutes.
    IMMEDIATE = "immediate"
    #: ACR category 2: hours.
    URGENT = "urgent"
    #: ACR category 3: days.
    SOON = "soon"

    @property
    def code(self) -> Code:
        return _CATEGORY_CODES[self]


_CATEGORY_CODES = {
    Category.IMMEDIATE: Code("RID49480", "RADLEX", "ACR Category 1 Actionable Finding"),
    Category.URGENT: Code("RID49481", "RADLEX", "ACR Category 2 Actionable Finding"),
    Category.SOON: Code("RID49482", "RADLEX", "ACR Category 3 Actionable Finding"),
}


class Finding(StrEnum):
    """A finding that a classification head scores once per image."""

    ADENOPATHY = "adenopathy"
    AORTIC_CALCIFICATION = "aortic_calcification"
    ATELECTASIS = "atelectasis"
    AZYGOS_LOBE = "azygos_lobe"
    CARDIOMEGALY = "cardiomegaly"
    CLAVICLE_FRACTURE = "clavicle_fracture"
    CONSOLIDATION = "consolidation"
    EDEMA = "edema"
    EMPHYSEMA = "emphysema"
    ENLARGED_CARDIOMEDIASTINUM = "enlarged_cardiomediastinum"
    FIBROSIS = "fibrosis"
    FISSURE = "fissure"
    FRACTURE = "fracture"
    GRANULOMA = "granuloma"
    HERNIA = "hernia"
    HYDROPNEUMOTHORAX = "hydropneumothorax"
    INFARCTION = "infarction"
    INFILTRATION = "infiltration"
    KYPHOSIS = "kyphosis"
    LOBAR_ATELECTASIS = "lobar_atelectasis"
    LUNG_LESION = "lung_lesion"
    LUNG_OPACITY = "lung_opacity"
    MASS = "mass"
    NODULE = "nodule"
    NORMAL = "normal"
    PLEURAL_EFFUSION = "pleural_effusion"
    PLEURAL_OTHER = "pleural_other"
    PLEURAL_THICKENING = "pleural_thickening"
    PNEUMOMEDIASTINUM = "pneumomediastinum"
    PNEUMONIA = "pneumonia"
    PNEUMOPERITONEUM = "pneumoperitoneum"
    PNEUMOTHORAX = "pneumothorax"
    PULMONARY_EMBOLISM = "pulmonary_embolism"
    PULMONARY_HYPERTENSION = "pulmonary_hypertension"
    RIB_FRACTURE = "rib_fracture"
    ROUND_ATELECTASIS = "round_atelectasis"
    SUBCUTANEOUS_EMPHYSEMA = "subcutaneous_emphysema"
    SUPPORT_DEVICES = "support_devices"
    TORTUOUS_AORTA = "tortuous_aorta"
    TUBERCULOSIS = "tuberculosis"

    @property
    def code(self) -> Code:
        return _FINDINGS[self][0]

    @property
    def site(self) -> Code:
        """The anatomic site that was evaluated for it (Finding Site, TID 1410)."""
        return _FINDINGS[self][1]

    @property
    def category(self) -> Category | None:
        """How soon it wants a reader when it is present; None when it asks for nobody."""
        return _FINDINGS[self][2]

    @property
    def is_pathology(self) -> bool:
        """False for what is no disorder when it is present: a normal chest, and support devices."""
        return self not in (Finding.NORMAL, Finding.SUPPORT_DEVICES)


#: The 40 findings of CXR-LT 2024 in the order in which CheXFound's published head gives them (alphabetical; index 0
#: to 39 of the label list in its notebook).
CXR_LT: tuple[Finding, ...] = (
    Finding.ADENOPATHY,
    Finding.ATELECTASIS,
    Finding.AZYGOS_LOBE,
    Finding.AORTIC_CALCIFICATION,  # "Calcification of the Aorta"
    Finding.CARDIOMEGALY,
    Finding.CLAVICLE_FRACTURE,
    Finding.CONSOLIDATION,
    Finding.EDEMA,
    Finding.EMPHYSEMA,
    Finding.ENLARGED_CARDIOMEDIASTINUM,
    Finding.FIBROSIS,
    Finding.FISSURE,
    Finding.FRACTURE,
    Finding.GRANULOMA,
    Finding.HERNIA,
    Finding.HYDROPNEUMOTHORAX,
    Finding.INFARCTION,
    Finding.INFILTRATION,
    Finding.KYPHOSIS,
    Finding.LOBAR_ATELECTASIS,
    Finding.LUNG_LESION,
    Finding.LUNG_OPACITY,
    Finding.MASS,
    Finding.NODULE,
    Finding.NORMAL,
    Finding.PLEURAL_EFFUSION,
    Finding.PLEURAL_OTHER,
    Finding.PLEURAL_THICKENING,
    Finding.PNEUMOMEDIASTINUM,
    Finding.PNEUMONIA,
    Finding.PNEUMOPERITONEUM,
    Finding.PNEUMOTHORAX,
    Finding.PULMONARY_EMBOLISM,
    Finding.PULMONARY_HYPERTENSION,
    Finding.RIB_FRACTURE,
    Finding.ROUND_ATELECTASIS,  # "Round(ed) Atelectasis"
    Finding.SUBCUTANEOUS_EMPHYSEMA,
    Finding.SUPPORT_DEVICES,
    Finding.TORTUOUS_AORTA,
    Finding.TUBERCULOSIS,
)


THORAX = Code("51185008", "SCT", "Thoracic structure")
LUNG = Code("39607008", "SCT", "Lung")
HEART = Code("80891009", "SCT", "Heart")
_AORTA = Code("113262008", "SCT", "Thoracic aorta")
_MEDIASTINUM = Code("72410000", "SCT", "Mediastinum")
_PULMONARY_ARTERY = Code("81040000", "SCT", "Pulmonary artery")
_RIB = Code("113197003", "SCT", "Rib")

_FINDINGS: dict[Finding, tuple[Code, Code, Category | None]] = {
    Finding.ADENOPATHY: (Code("30746006", "SCT", "Lymphadenopathy"), _MEDIASTINUM, Category.SOON),
    Finding.AORTIC_CALCIFICATION: (private("AORTIC_CALCIF", "Calcification of aorta"), _AORTA, None),
    Finding.ATELECTASIS: (Code("46621007", "SCT", "Atelectasis"), LUNG, Category.SOON),
    Finding.AZYGOS_LOBE: (private("AZYGOS_LOBE", "Azygos lobe"), LUNG, None),
    Finding.CARDIOMEGALY: (Code("8186001", "SCT", "Cardiomegaly"), HEART, Category.SOON),
    Finding.CLAVICLE_FRACTURE: (
        private("FRACT_CLAVICLE", "Fracture of clavicle"),
        Code("51299004", "SCT", "Clavicle"),
        Category.SOON,
    ),
    Finding.CONSOLIDATION: (Code("95436008", "SCT", "Lung consolidation"), LUNG, Category.SOON),
    Finding.EDEMA: (Code("19242006", "SCT", "Pulmonary edema"), LUNG, Category.SOON),
    Finding.EMPHYSEMA: (private("EMPHYSEMA", "Pulmonary emphysema"), LUNG, None),
    Finding.ENLARGED_CARDIOMEDIASTINUM: (
        private("ENL_CARDIOMEDIA", "Enlarged cardiomediastinum"),
        _MEDIASTINUM,
        Category.SOON,
    ),
    Finding.FIBROSIS: (Code("112674009", "SCT", "Fibrosis"), LUNG, Category.SOON),
    Finding.FISSURE: (Code("278983006", "SCT", "Fissure of lung"), LUNG, None),
    Finding.FRACTURE: (private("FRACTURE", "Fracture"), THORAX, Category.SOON),
    Finding.GRANULOMA: (private("GRANULOMA", "Granuloma"), LUNG, None),
    Finding.HERNIA: (private("HERNIA", "Diaphragmatic or hiatal hernia"), Code("5798000", "SCT", "Diaphragm"), None),
    Finding.HYDROPNEUMOTHORAX: (private("HYDROPNEUMOTHOR", "Hydropneumothorax"), LUNG, Category.URGENT),
    Finding.INFARCTION: (private("LUNG_INFARCTION", "Pulmonary infarction"), LUNG, Category.URGENT),
    Finding.INFILTRATION: (Code("112121", "DCM", "Infiltrate"), LUNG, Category.SOON),
    Finding.KYPHOSIS: (private("KYPHOSIS", "Kyphosis"), Code("122495006", "SCT", "Thoracic spine"), None),
    Finding.LOBAR_ATELECTASIS: (private("LOBAR_ATELECT", "Lobar atelectasis"), LUNG, Category.SOON),
    Finding.LUNG_LESION: (Code("52988006", "SCT", "Lesion"), LUNG, Category.SOON),
    Finding.LUNG_OPACITY: (Code("112001", "DCM", "Opacity"), LUNG, Category.SOON),
    Finding.MASS: (Code("4147007", "SCT", "Mass"), LUNG, Category.SOON),
    Finding.NODULE: (Code("27925004", "SCT", "Nodule"), LUNG, Category.SOON),
    Finding.NORMAL: (Code("17621005", "SCT", "Normal"), THORAX, None),
    Finding.PLEURAL_EFFUSION: (Code("60046008", "SCT", "Pleural effusion"), LUNG, Category.SOON),
    Finding.PLEURAL_OTHER: (private("PLEURAL_OTHER", "Other pleural abnormality"), LUNG, Category.SOON),
    Finding.PLEURAL_THICKENING: (private("PLEURAL_THICKEN", "Pleural thickening"), LUNG, None),
    Finding.PNEUMOMEDIASTINUM: (Code("16838000", "SCT", "Pneumomediastinum"), _MEDIASTINUM, Category.URGENT),
    Finding.PNEUMONIA: (Code("233604007", "SCT", "Pneumonia"), LUNG, Category.SOON),
    Finding.PNEUMOPERITONEUM: (
        private("PNEUMOPERITON", "Pneumoperitoneum"),
        Code("83670000", "SCT", "Peritoneal cavity"),
        Category.URGENT,
    ),
    Finding.PNEUMOTHORAX: (Code("36118008", "SCT", "Pneumothorax"), LUNG, Category.URGENT),
    Finding.PULMONARY_EMBOLISM: (Code("59282003", "SCT", "Pulmonary embolism"), _PULMONARY_ARTERY, Category.URGENT),
    Finding.PULMONARY_HYPERTENSION: (
        Code("70995007", "SCT", "Pulmonary hypertension"),
        _PULMONARY_ARTERY,
        Category.SOON,
    ),
    Finding.RIB_FRACTURE: (Code("33737001", "SCT", "Fracture of rib"), _RIB, Category.SOON),
    Finding.ROUND_ATELECTASIS: (private("ROUND_ATELECT", "Rounded atelectasis"), LUNG, Category.SOON),
    Finding.SUBCUTANEOUS_EMPHYSEMA: (
        private("SUBCUT_EMPHYSEMA", "Subcutaneous emphysema"),
        Code("71966008", "SCT", "Subcutaneous tissue"),
        Category.SOON,
    ),
    Finding.SUPPORT_DEVICES: (private("SUPPORT_DEVICES", "Support devices"), THORAX, None),
    Finding.TORTUOUS_AORTA: (private("TORTUOUS_AORTA", "Tortuous aorta"), _AORTA, None),
    Finding.TUBERCULOSIS: (private("TUBERCULOSIS", "Pulmonary tuberculosis"), LUNG, Category.URGENT),
}
