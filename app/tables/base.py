"""What every table is made of."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    BindParameter,
    CheckConstraint,
    DateTime,
    Float,
    Identity,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    bindparam,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import Collection

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads it from the class
        str: Text,
        int: BigInteger,
        Decimal: Numeric(18, 12),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
        bytes: LargeBinary,
        float: Float,
    }


def table_of(entity: type[Base]) -> Table:
    """The Core table: statements on it leave out the ORM's work, which every ticket would pay for."""
    return cast("Table", entity.__table__)


def bound(table: Table, *, without: Collection[str]) -> dict[str, BindParameter[Any]]:
    """A parameter for every column but these, with its name and type: what a statement that is built once inserts."""
    return {one.name: bindparam(one.name, type_=one.type) for one in table.c if one.name not in without}


def identity() -> Mapped[int]:
    return mapped_column(BigInteger, Identity(always=True), primary_key=True)


def moment() -> Mapped[datetime]:
    return mapped_column(server_default=func.clock_timestamp())


def one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)
