# SPDX-License-Identifier: Apache-2.0
"""Uses a server through the client that openapi-python-client generates from its own description: tools/api/run calls it."""
import io
import sys

from holdfast_client import Client
from holdfast_client.api.default import (delete_records_namespace_key, get_acknowledgements_scope_place, get_records_namespace,
                                         get_records_namespace_key, post_batch, put_records_namespace_key)
from holdfast_client.models import Batch
from holdfast_client.types import File


def expect(holds, words):
    if not holds:
        sys.exit(f"the generated client: {words}")


client = Client(base_url=sys.argv[1])
put = put_records_namespace_key.sync_detailed(
    "rec", "generated/1", client=client, body=File(io.BytesIO(b"soup"), mime_type="application/octet-stream"),
    idempotency_key="generated-1")
expect(put.status_code == 201 and put.parsed.reached, f"PUT: {put}")
again = put_records_namespace_key.sync_detailed(
    "rec", "generated/1", client=client, body=File(io.BytesIO(b"soup"), mime_type="application/octet-stream"),
    idempotency_key="generated-1")
expect(again.parsed.etags == put.parsed.etags, "a retry is another write")
got = get_records_namespace_key.sync_detailed("rec", "generated/1", client=client)
expect(got.status_code == 200 and got.content == b"soup", f"GET: {got}")
tag = f'"{put.parsed.etags[0]}"'
expect(get_records_namespace_key.sync_detailed("rec", "generated/1", client=client, if_none_match=tag).status_code == 304, "If-None-Match")
batch = post_batch.sync_detailed(client=client, body=Batch.from_dict({"namespace": "rec", "writes": [
    {"op": "put", "key": "generated/2", "value": {"cents": 450}}, {"op": "delete", "key": "generated/1"}]}))
expect(batch.status_code == 200 and len(batch.parsed.etags) == 2, f"batch: {batch}")
page = get_records_namespace.sync_detailed("rec", client=client, prefix="generated/", limit=10)
expect([record.key for record in page.parsed.records] == ["generated/2"], f"list: {page}")
stale = delete_records_namespace_key.sync_detailed("rec", "generated/2", client=client, if_match=tag)
expect(stale.status_code == 412 and stale.parsed.code == "precondition_failed", f"a stale If-Match: {stale}")
far = delete_records_namespace_key.sync_detailed("rec", "generated/2", client=client, ack="site:2", wait="0ms")
expect(far.status_code == 202 and not far.parsed.reached, f"202: {far}")
scope, place = far.parsed.ask.split("?")[0].split("/")[-2:]
later = get_acknowledgements_scope_place.sync_detailed(scope, place, client=client, ack="local")
expect(later.status_code == 200 and later.parsed.reached, f"an acknowledgement later: {later}")
print("the generated client: 9 kinds of calls did what they say")
