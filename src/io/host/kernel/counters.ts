// Reads the named counters of one nftables table over netlink, as `nft -j list counters table` does, without a process. The
// numbers are those of linux/netfilter/nf_tables.h; 64-bit numbers are in network order.
import { header, NFPROTO_INET, type } from './nfnetlink.ts'
import { attribute, attributeMap, textOf } from './message.ts'
import type { Questions } from './questions.ts'

const NFT_MSG_NEWOBJ = 18
const NFT_MSG_GETOBJ = 19
const NFTA_OBJ_TABLE = 1
const NFTA_OBJ_NAME = 2
const NFTA_OBJ_TYPE = 3
const NFTA_OBJ_DATA = 4
const NFTA_COUNTER_PACKETS = 2
const NFT_OBJECT_COUNTER = 1
// Bytes of struct nfgenmsg, before the attributes.
const NFGENMSG_BYTES = 4

/**
 * Returns the packets of each counter by its name; empty where the family `inet` has no such table. Rejects where the
 * kernel gives no whole answer.
 */
export async function readCounters(
  questions: Questions,
  table: string
): Promise<ReadonlyMap<string, number>> {
  const body = Buffer.concat([
    header(NFPROTO_INET),
    attribute(NFTA_OBJ_TABLE, Buffer.from(`${table}\0`)),
    attribute(NFTA_OBJ_TYPE, networkOrder(NFT_OBJECT_COUNTER))
  ])
  const rows = await questions.ask({ type: type(NFT_MSG_GETOBJ), body, isList: true }, (answer) =>
    answer.type === type(NFT_MSG_NEWOBJ) ? counterOf(answer.payload, table) : undefined
  )
  if (typeof rows === 'number') throw new Error(`the kernel refused to list counters with error ${rows}`)
  return new Map(rows)
}

/** Returns name and packets; undefined for another table, which a kernel that does not filter the list gives, too. */
function counterOf(payload: Buffer, table: string): readonly [string, number] | undefined {
  if (payload[0] !== NFPROTO_INET) return undefined
  const fields = attributeMap(payload.subarray(NFGENMSG_BYTES))
  const [owner, name, data] = [NFTA_OBJ_TABLE, NFTA_OBJ_NAME, NFTA_OBJ_DATA].map((kind) => fields.get(kind))
  if (owner === undefined || name === undefined || data === undefined || textOf(owner) !== table)
    return undefined
  const packets = attributeMap(data).get(NFTA_COUNTER_PACKETS)
  return packets?.length === 8 ? [textOf(name), Number(packets.readBigUInt64BE(0))] : undefined
}

function networkOrder(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
