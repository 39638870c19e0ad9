from fastapi import HTTPException


def answer(work, log):
    try:
        work()
    except ValueError as error:
        # ruleid: errors-hide-their-cause, http-errors-are-raised-in-one-place
        raise HTTPException(status_code=400, detail=str(error)) from error
    try:
        work()
    except ValueError as error:
        # ruleid: errors-hide-their-cause
        raise Refusal(CommonError.VALIDATION_FAILED, detail=f"not understood: {error}") from None
    try:
        work()
    except OSError as error:
        # ok: errors-hide-their-cause
        log.warning("check_failed", error=str(error))
        # ok: errors-hide-their-cause
        raise Refusal(CommonError.VALIDATION_FAILED, detail="The cursor does not belong to this list.") from None
    try:
        work()
    except Refusal as refusal:
        # ok: errors-hide-their-cause
        raise Refusal(refusal.code, detail=f"Account 1: {refusal.detail}") from None
    # ruleid: http-errors-are-raised-in-one-place
    raise HTTPException(404)
