"""Packaging of crew_tx: what it needs, and which files are part of it."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

#: What the tests import beside the package itself.
TEST = [
    "django>=5.1",
    "flask>=3",
    "hypothesis>=6.100",
    "opentelemetry-sdk>=1.20",
    "pamqp>=3.3",
    "pika>=1.3",
    "prometheus-client>=0.20",
    "psycopg[binary]>=3.1",
    "pymysql>=1.1",
    "rich>=13",
    "setuptools>=77",
    "trustme>=1.1",
    "zstandard>=0.22",
]
#: What builds the pages of docs/.
DOCS = ["furo>=2024.8", "myst-parser>=4", "sphinx>=8.1"]
DEV = [*DOCS, "mypy>=1.13", "mypy-zope>=1.0.9", "ruff~=0.17.5", "towncrier>=24.8"]

setup(
    name="crew_tx",
    version=run_path(str(HERE / "crew_tx" / "_version.py"))["__version__"],
    description="Remote calls over RabbitMQ for Twisted, with priorities, time limits and publish-subscribe",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="crew_tx contributors",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    keywords="amqp rabbitmq twisted rpc task queue",
    python_requires=">=3.11",
    install_requires=["twisted[tls]>=22.8.0", "txamqp>=0.8.2", "cbor2>=5.9,!=6.0.*,!=6.1.0"],
    extras_require={
        "cli": ["rich>=13"],
        "metrics": ["prometheus-client>=0.20"],
        "tracing": ["opentelemetry-api>=1.20"],
        "zstd": ["zstandard>=0.22"],
        "test": TEST,
        "docs": DOCS,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["crew = crew_tx.cli.crew.main:script"]},
    # The root is named, so that an editable install puts the whole of it on the
    # path: Twisted looks for plugins in the folders twisted/plugins of the path.
    package_dir={"": "."},
    # twisted.plugins is Twisted's own package: ours adds one file to its folder,
    # and has no __init__.py, which would hide Twisted's.
    packages=[*find_packages(include=["crew_tx", "crew_tx.*"]), "twisted.plugins"],
    package_data={"crew_tx": ["py.typed"], "crew_tx.amqp": ["*.xml"], "crew_tx.web": ["page/*"]},
    zip_safe=False,
)
