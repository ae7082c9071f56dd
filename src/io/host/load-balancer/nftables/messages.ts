// Encodes and decodes messages of nf_tables over netlink: elements of our sets to send, and the kernel's answers and
// events. kernel.ts sends and receives them. The numbers and the nesting of attributes are those of
// linux/netfilter/nf_tables.h and linux/netfilter/nfnetlink.h. Lengths and types of netlink are in the byte order of
// the machine, which is little-endian (kernel/netlink.ts opens no socket on another one). The numbers of nf_tables
// itself are in network order.
import { ipToBytes } from '../../../../core/model/cidr.ts'
import type { Ip } from '../../../../core/model/values.ts'
import { attribute, HEADER_BYTES, nested } from '../../kernel/message.ts'
import { header, NFNL_SUBSYS_NFTABLES, NFPROTO_INET } from '../../kernel/nfnetlink.ts'
import type { Element } from './table.ts'

const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NLM_F_CREATE = 0x400
// Code of the verdict `goto`.
const NFT_GOTO = -4
// An attribute has at most 64 KiB, because its length has 16 bits. 200 IPv6 elements with a comment have 40 KiB.
const ELEMENTS_PER_MESSAGE = 200

/** A message from the kernel. `payload` is valid until the socket is read again. */
export interface Message {
  /** The 16-bit type: subsystem and message, or a control message such as NLMSG_ERROR. */
  readonly rawType: number
  /** The number of the NFT_MSG_… of nftables; −1 for a message of another subsystem. */
  readonly type: number
  /** Netlink port of the socket that caused the message. In an event it tells who made the change. */
  readonly port: number
  /** First byte of the payload: the family of the table, such as NFPROTO_INET. */
  readonly family: number
  /** First attribute as text, which is the table's name in all messages of nftables but NEWGEN. */
  readonly table: string | undefined
  readonly payload: Buffer
}

/** Yields the messages of a datagram. Stops without an error at a length that does not fit. */
export function* messagesOf(datagram: Buffer): Generator<Message> {
  for (let at = 0; at + HEADER_BYTES <= datagram.length;) {
    const length = datagram.readUInt32LE(at)
    if (length < HEADER_BYTES || at + length > datagram.length) return
    const rawType = datagram.readUInt16LE(at + 4)
    const payload = datagram.subarray(at + HEADER_BYTES, at + length)
    const ours = rawType >> 8 === NFNL_SUBSYS_NFTABLES
    yield {
      rawType,
      type: ours ? rawType & 255 : -1,
      port: datagram.readUInt32LE(at + 12),
      family: payload[0] ?? 0,
      table: ours ? firstText(payload) : undefined,
      payload
    }
    at += (length + 3) & ~3 // messages begin at multiples of 4 bytes
  }
}

/** Returns the first attribute behind nfgenmsg, without its closing zero byte; undefined where its type is not 1. */
function firstText(payload: Buffer): string | undefined {
  const at = 4 // nfgenmsg
  if (payload.length < at + 5) return undefined
  const end = at + payload.readUInt16LE(at)
  if (payload.readUInt16LE(at + 2) !== 1 || end > payload.length) return undefined
  return payload.toString('latin1', at + 4, end - 1)
}

/** Returns the number of the ruleset after a transaction, from a message NEWGEN; 0 where the message is too short. */
export function generationOf({ payload }: Message): number {
  // NFTA_GEN_ID is the first attribute, behind 4 bytes of nfgenmsg and 4 bytes of the attribute's head.
  return payload.length >= 12 ? payload.readUInt32BE(8) : 0
}

/** A message to send, without its header. `message` is an NFT_MSG_…, `flags` are NLM_F_… without REQUEST and ACK. */
export interface Outgoing {
  readonly message: number
  readonly flags: number
  readonly body: Buffer
}

/**
 * Returns the messages that add or delete the elements, with up to 200 consecutive elements of one set in each. The
 * order is kept.
 */
export function encode(
  table: string,
  verb: 'add' | 'delete',
  elements: readonly Element[]
): readonly Outgoing[] {
  const outgoing: Outgoing[] = []
  for (let start = 0; start < elements.length;) {
    const set = elements[start]?.set ?? ''
    let end = start
    while (elements[end]?.set === set && end - start < ELEMENTS_PER_MESSAGE) end++
    const list = elements.slice(start, end).map((element) => nested(1, elementAttributes(element, verb)))
    outgoing.push({
      message: verb === 'add' ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
      flags: verb === 'add' ? NLM_F_CREATE : 0,
      // NFTA_SET_ELEM_LIST_TABLE, _SET and _ELEMENTS.
      body: Buffer.concat([
        header(NFPROTO_INET),
        attribute(1, text(table)),
        attribute(2, text(set)),
        nested(3, list)
      ])
    })
    start = end
  }
  return outgoing
}

/** NFTA_SET_ELEM_KEY (1), _DATA (2) and _USERDATA (6). To delete an element the kernel needs its key alone. */
function elementAttributes({ set, key, tail }: Element, verb: 'add' | 'delete'): readonly Buffer[] {
  const attributes = [nested(1, [attribute(1, keyBytes(set, key.split(' . ')))])]
  if (verb === 'delete') return attributes
  const [, comment, value] = /^(?: comment "([^"]*)")?(?: : (.*))?$/.exec(tail) ?? []
  if (value !== undefined) attributes.push(nested(2, [dataOf(set, value)]))
  // A comment is user data, which the kernel only stores: NFTNL_UDATA_SET_ELEM_COMMENT (0), length, text, zero byte.
  if (comment !== undefined)
    attributes.push(attribute(6, Buffer.concat([Buffer.from([0, comment.length + 1]), text(comment)])))
  return attributes
}

/**
 * Encodes a key as the kernel compares it: each part begins at a multiple of 4 bytes and is in network order. Only the
 * slot number is in the byte order of the machine, because `numgen` and `jhash` write it so.
 */
function keyBytes(set: string, parts: readonly string[]): Buffer {
  const [vip = '', protocol = '', port = '', ...rest] = parts
  const head = [ipToBytes(vip as Ip), Buffer.from([Number(protocol), 0, 0, 0]), port16(port)]
  if (set.startsWith('slots')) {
    const slot = Buffer.alloc(4)
    slot.writeUInt32LE(Number(rest[0]))
    head.push(slot)
  }
  if (set.startsWith('weights')) head.push(ipToBytes(rest[0] as Ip), port16(rest[1]))
  return Buffer.concat(head)
}

/** Encodes the value of a map: backend and port for `slots`, a `goto` to a chain for `services`. */
function dataOf(set: string, value: string): Buffer {
  if (set.startsWith('slots')) {
    const [ip = '', port] = value.split(' . ')
    return attribute(1, Buffer.concat([ipToBytes(ip as Ip), port16(port)]))
  }
  const code = Buffer.alloc(4)
  code.writeInt32BE(NFT_GOTO)
  return nested(2, [attribute(1, code), attribute(2, text(value.slice('goto '.length)))])
}

/** Two bytes in network order, filled up to 4. */
function port16(value: string | undefined): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt16BE(Number(value))
  return bytes
}

function text(value: string): Buffer {
  return Buffer.from(`${value}\0`, 'latin1')
}
