"""Field tables, both ways: :mod:`.table_writer` and :mod:`.table_reader`."""

from crew_tx.amqp.table_reader import decode_table
from crew_tx.amqp.table_writer import DEEPEST, encode_short_string, encode_table

__all__ = ["DEEPEST", "decode_table", "encode_short_string", "encode_table"]
