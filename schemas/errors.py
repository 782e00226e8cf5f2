"""The one tree of errors; whoever faces a peer turns a class into its DIMSE or HTTP status.

The first line of a class's docstring is the message's first sentence; the instance adds what happened and what to do.
"""

from typing import ClassVar


class ChexnodeError(Exception):
    """CheXNode could not do what was asked."""

    #: Status of a C-STORE response (PS3.4 B.2.3); 0xC000 "cannot understand" unless a class knows better.
    dimse_status: ClassVar[int] = 0xC000
    http_status: ClassVar[int] = 500
    #: True when the same call may succeed later without anybody changing anything.
    retryable: ClassVar[bool] = False
    #: False when the fault is the surroundings' and not the work's: then no attempt is used up.
    counts: ClassVar[bool] = True

    def __init__(self, detail: str = "", said: object = "") -> None:
        self.detail = detail
        #: Words of somebody else, a library or a peer: they may hold what a header holds, and are never logged.
        self.said = str(said)
        super().__init__(detail)

    def __str__(self) -> str:
        return f"{self.own_words} {self.said}".strip()

    @property
    def own_words(self) -> str:
        """The message as it may be logged: names no patient."""
        sentence = (type(self).__doc__ or "").strip().split("\n")[0]
        return f"{sentence} {self.detail}".strip()


class SettingsError(ChexnodeError):
    """The settings are not usable."""


class NotDicomError(ChexnodeError):
    """The data set cannot be read as DICOM."""

    http_status = 400


class IdentityError(ChexnodeError):
    """The data set does not identify itself as the request says."""

    dimse_status = 0xA900
    http_status = 409


class SopClassError(ChexnodeError):
    """The SOP class is not that of the presentation context."""

    dimse_status = 0x0122


class InstanceUidError(ChexnodeError):
    """The SOP Instance UID of the request is no UID."""

    dimse_status = 0x0117


class ObjectTooLargeError(ChexnodeError):
    """The object is larger than what is taken."""

    dimse_status = 0xC0A7
    http_status = 413


class OutOfResourcesError(ChexnodeError):
    """The node cannot keep this object at present."""

    dimse_status = 0xA700
    http_status = 507
    retryable = True
    counts = False


class ObjectMissingError(ChexnodeError):
    """The object store does not hold these bytes, or holds them damaged."""


class StoreUnavailableError(ChexnodeError):
    """The object store of another host does not answer as it should."""

    http_status = 503
    retryable = True
    counts = False


class PixelDataError(ChexnodeError):
    """The pixel data cannot be read."""


class UnsupportedImageError(ChexnodeError):
    """The image is not one that this analysis is made for."""


class BundleError(ChexnodeError):
    """The model bundle cannot be used."""


class BundleMakingError(BundleError):
    """The bundle cannot be made."""


class SourceError(ChexnodeError):
    """The data source cannot be read."""


class ArrayError(ChexnodeError):
    """The array is no input of this bundle."""


class EngineError(ChexnodeError):
    """The inference engine failed, hung or died on this image."""

    retryable = True


class EngineDiedError(EngineError):
    """The inference engine's process died."""


class EngineUnavailableError(EngineError):
    """The inference engine does not start."""

    counts = False


class WorkerProcessLostError(ChexnodeError):
    """The process that worked on this item died or hung."""

    retryable = True


class LedgerError(ChexnodeError):
    """The ledger cannot be migrated."""


class LedgerBackupError(ChexnodeError):
    """The ledger was not saved or restored."""


class LeaseLostError(ChexnodeError):
    """The lease on this work has passed to somebody else; what was computed is thrown away."""


class DeliveryError(ChexnodeError):
    """The destination did not take the object."""

    retryable = True


class DestinationDownError(DeliveryError):
    """The destination does not answer."""


class DeliveryRefusedError(ChexnodeError):
    """The destination refused the object for good."""


class CommitmentError(ChexnodeError):
    """The storage commitment did not come about."""

    retryable = True


class StudyNotFoundError(ChexnodeError):
    """There is no such study."""

    http_status = 404


class NotReleasedError(ChexnodeError):
    """It stays in quarantine."""

    http_status = 409


class StudyChangedError(ChexnodeError):
    """A newer result of the study came since you looked."""

    http_status = 409


class PeerError(ChexnodeError):
    """The DICOM peer did not do what was asked."""


class PortInUseError(ChexnodeError):
    """A port that the node needs is in use."""


class AlreadyRunningError(ChexnodeError):
    """Another CheXNode uses this home folder."""


class AccountError(ChexnodeError):
    """The account cannot be made or changed so."""

    http_status = 422


class LoginNeededError(ChexnodeError):
    """You are not logged in."""

    http_status = 401


class LoginFailedError(ChexnodeError):
    """Name or password is wrong."""

    http_status = 401


class TooManyLoginsError(ChexnodeError):
    """Too many logins failed."""

    http_status = 429
    retryable = True

    def __init__(self, wait_seconds: int) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(f"Try again in {-(-wait_seconds // 60)} min.")


class NotAllowedError(ChexnodeError):
    """Your account may not do that."""

    http_status = 403


class RefusedError(ChexnodeError):
    """The page does not answer this request."""

    http_status = 403


class RequestTooLargeError(ChexnodeError):
    """The request is too large."""

    http_status = 413


class PageBusyError(ChexnodeError):
    """The page has too much to do at present."""

    http_status = 503
    retryable = True
