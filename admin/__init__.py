"""The admin web application: one blueprint and one folder of templates a feature. For the admin process only."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, render_template

from pgsplit import __version__
from pgsplit.errors import PgSplitError

from . import (
    api,
    clusters,
    configuration,
    formats,
    log,
    login,
    machine,
    overview,
    routing,
    security,
    sessions,
    topology,
    users,
)
from .instance import Instance
from .proxying import BehindProxy
from .settings import AdminSettings

ROOT = Path(__file__).resolve().parents[1]
PAGES = (overview, sessions, routing, clusters, topology, users, configuration, log)
LIMIT = 4 << 20        # bytes of a request


def create_app(instance: Instance, settings: AdminSettings) -> Flask:
    """The application in front of *instance*, the running proxy; *settings* say who may do what."""
    app = Flask("admin", root_path=str(ROOT))
    app.config.update(
        SECRET_KEY=settings.key, MAX_CONTENT_LENGTH=LIMIT, SESSION_COOKIE_NAME="pgsplit_admin",
        SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Strict", SESSION_COOKIE_PATH=settings.prefix or "/",
        SESSION_COOKIE_SECURE=settings.tls, PERMANENT_SESSION_LIFETIME=security.LIFETIME,
        WTF_CSRF_CHECK_DEFAULT=False, WTF_CSRF_TIME_LIMIT=None, WTF_CSRF_SSL_STRICT=False)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.extensions["pgsplit"] = instance
    app.extensions["pgsplit_settings"] = settings
    formats.init_app(app)
    security.init_app(app)
    for feature in (*PAGES, login, machine, api):
        app.register_blueprint(feature.blueprint)
    app.context_processor(lambda: {"pages": [page.PAGE for page in PAGES], "version": __version__})
    app.register_error_handler(PgSplitError, _not_now)
    app.wsgi_app = BehindProxy(app.wsgi_app, settings)  # type: ignore[method-assign]
    return app


def _not_now(error: PgSplitError) -> tuple[str, int]:
    """The proxy does not answer, or refuses: the page says what it said."""
    return render_template("refused.html", why=str(error)), 503
