"""Foreign errors, in our words: what could not be done, where, and what to do about it."""

from __future__ import annotations

import errno

from raystream.errors import StorageError

# Names of S3's refusals that a user can do something about.
_CODES = {
    "NoSuchBucket": "create the bucket, or correct its name",
    "InvalidBucketName": "correct the bucket's name",
    "AccessDenied": "grant reading, writing, listing and deleting there to these credentials",
    "AllAccessDisabled": "grant reading, writing, listing and deleting there to these credentials",
    "InvalidAccessKeyId": "check the credentials (AWS_ACCESS_KEY_ID, a profile, a role)",
    "SignatureDoesNotMatch": "check the credentials (AWS_SECRET_ACCESS_KEY)",
    "ExpiredToken": "renew the credentials",
    "RequestTimeTooSkewed": "set this machine's clock",
    "PermanentRedirect": "the bucket is in another region: set AWS_DEFAULT_REGION",
    "403": "check the credentials, and what they may do there",
}

_ERRNOS = {
    errno.ENOSPC: "the disk is full: free space there, or choose another place",
    errno.EDQUOT: "the quota is used up: free space there, or choose another place",
    errno.EACCES: "grant writing there to the user of this process, or choose another place",
    errno.EPERM: "grant writing there to the user of this process, or choose another place: "
    "one whose filesystem has hard links",
    errno.EOPNOTSUPP: "the filesystem lacks hard links, or flushing: choose another place",
    errno.ENOSYS: "the filesystem lacks hard links, or flushing: choose another place",
    errno.EROFS: "the filesystem is mounted read-only: choose another place",
    errno.ENOTDIR: "a part of the path is a file: choose another place",
    errno.EISDIR: "this is a folder: choose another place",
    errno.ENAMETOOLONG: "choose a shorter path, or a shorter name of the job",
    errno.EMFILE: "raise the number of files that a process may open (ulimit -n)",
}

# botocore's own errors, which never reached a server.
_CLIENT = {
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role",
    "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "correct AWS_PROFILE",
    "EndpointConnectionError": "check the network, and AWS_ENDPOINT_URL where one is set",
    "ParamValidationError": "check the bucket's name, and that s3fs is new: raystream[s3]",
}


def storage_error(doing: str, url: str, error: BaseException) -> StorageError:
    """Say that ``doing`` failed at ``url``; the caller raises it from ``error``."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StorageError(
        f"cannot {doing} {url}: {reason or type(error).__name__}", hint=_hint(error)
    )


def _hint(error: BaseException) -> str | None:
    known = _CODES.get(code_of(error)) or _CLIENT.get(type(error).__name__)
    if known is None and isinstance(error, OSError) and error.errno is not None:
        known = _ERRNOS.get(error.errno)
    if known is None and isinstance(error, PermissionError):
        known = _ERRNOS[errno.EACCES]
    return known


def code_of(error: BaseException) -> str:
    """Give the name by which S3 refused: of the error, or of the one that it came from."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
