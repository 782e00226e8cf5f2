"""Delivery into a folder, STUDY/SERIES/INSTANCE.dcm: where there is no PACS."""

import os

from node.delivery.parcel import Parcel
from node.storage.durable import sync_folder
from schemas.errors import DestinationDownError
from schemas.settings import FolderDestination


class FolderSender:
    """Writes files whole: a reader never sees half an object."""

    def __init__(self, destination: FolderDestination) -> None:
        self._root = destination.path

    def send(self, parcel: Parcel) -> str:
        """Write the object durably. Raises DestinationDownError when the folder cannot be written."""
        folder = self._root / parcel.study_instance_uid / parcel.series_instance_uid
        target = folder / f"{parcel.sop_instance_uid}.dcm"
        draft = folder / f".{parcel.sop_instance_uid}.draft"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as stream:
                stream.write(parcel.content)
                stream.flush()
                os.fsync(stream.fileno())
            draft.rename(target)
            sync_folder(folder)
        except OSError as error:
            raise DestinationDownError(f"{target}: {error.strerror}.") from error
        return f"written to {target}"

    def close(self) -> None:
        """Nothing is held open."""
