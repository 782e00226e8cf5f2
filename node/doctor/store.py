"""Do the object stores of other hosts answer, and do they accept our secret?"""

from collections.abc import Iterator

from node.doctor.verdict import Finding, Judge, Subject, Verdict, failed, ok
from node.storage.stores import other_stores, store_secret
from schemas.errors import SettingsError, StoreUnavailableError
from schemas.settings import Settings

#: No object has this name.
_NOTHING = "0" * 64


def store_subject(settings: Settings) -> Subject:
    """Checks of the object store over HTTP, for settings that serve one or name others."""

    def examine(judge: Judge) -> Iterator[Verdict]:
        yield judge("store.secret", lambda: _secret(settings))
        if settings.store_urls:
            yield judge("store.others", lambda: _others(settings))

    return Subject("store", ("secret", *(["others"] if settings.store_urls else [])), examine)


def _secret(settings: Settings) -> Finding:
    try:
        store_secret(settings)
    except SettingsError as error:
        return failed("there is no usable secret for the object store", error.detail)
    return ok("the object store has a secret")


def _others(settings: Settings) -> Finding:
    problems = []
    try:
        for store in other_stores(settings):
            try:
                store.holds(_NOTHING)
            except StoreUnavailableError as error:
                problems.append(error.detail)
    except SettingsError as error:
        return failed("the object stores of other hosts cannot be asked", error.detail)
    if problems:
        return failed(
            f"{len(problems)} of {len(settings.store_urls)} object stores cannot be used",
            "Until then what they hold waits. Start chexnode store there, and give all hosts the same secret.",
            " ".join(problems),
        )
    return ok(f"{', '.join(settings.store_urls)} answer")
