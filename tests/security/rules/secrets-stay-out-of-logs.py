import logging

import structlog

log = structlog.get_logger(__name__)


def sign_in(form, card, settings, token, tokens):
    # ruleid: secrets-stay-out-of-logs
    log.info("logged_in", password="x")
    # ruleid: secrets-stay-out-of-logs
    log.warning("refused", sent=form.password)
    # ruleid: secrets-stay-out-of-logs
    log.debug("issued", number=str(card.card_number))
    # ruleid: secrets-stay-out-of-logs
    logging.info("token %s", token)
    # ruleid: secrets-stay-out-of-logs
    log.info(f"the key is {settings.jwt_secret}")
    # ruleid: secrets-stay-out-of-logs
    log.info("started", key=settings.jwt_secret.get_secret_value())
    # ruleid: secrets-stay-out-of-logs
    print(card.cvc)
    # ok: secrets-stay-out-of-logs
    log.info("tokens_forgotten", count=tokens)
    # ok: secrets-stay-out-of-logs
    log.info("logged_in", user_id=form.user_id, token_version=3)
    # ok: secrets-stay-out-of-logs
    print("the password is read from standard input")
