// Messages of nf_tables over netlink (linux/netfilter/nf_tables.h) as bytes: elements of our sets to send, and what the kernel answers.
import { ipToBytes } from '../../../../core/model/cidr.ts'
import type { Ip } from '../../../../core/model/values.ts'
import type { Element } from './table.ts'

export const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_NEWSETELEM = 12
const NFT_MSG_DELSETELEM = 14
const NLM_F_CREATE = 0x400
export const NFPROTO_INET = 1
const NFT_GOTO = -4
const NLA_F_NESTED = 0x8000
// A netlink attribute has at most 64 KiB: 200 elements of IPv6 with a comment have 40.
const ELEMENTS_PER_MESSAGE = 200

export interface Message {
  readonly rawType: number
  /** NFT_MSG_…, or −1 for what is not of nftables. */
  readonly type: number
  readonly port: number
  readonly family: number
  /** Of all messages of nftables but NEWGEN the first attribute is the table's name. */
  readonly table: string | undefined
  readonly payload: Buffer
}

const HEADER_BYTES = 16

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
    at += (length + 3) & ~3
  }
}

function firstText(payload: Buffer): string | undefined {
  const at = 4 // nfgenmsg
  if (payload.length < at + 5) return undefined
  const end = at + payload.readUInt16LE(at)
  if (payload.readUInt16LE(at + 2) !== 1 || end > payload.length) return undefined
  return payload.toString('latin1', at + 4, end - 1)
}

export function generationOf({ payload }: Message): number {
  // NFTA_GEN_ID is the first attribute: a number in network order.
  return payload.length >= 12 ? payload.readUInt32BE(8) : 0
}

export interface Outgoing {
  readonly message: number
  readonly flags: number
  readonly body: Buffer
}

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

function elementAttributes({ set, key, tail }: Element, verb: 'add' | 'delete'): readonly Buffer[] {
  const attributes = [nested(1, [attribute(1, keyBytes(set, key.split(' . ')))])]
  if (verb === 'delete') return attributes
  const [, comment, value] = /^(?: comment "([^"]*)")?(?: : (.*))?$/.exec(tail) ?? []
  if (value !== undefined) attributes.push(nested(2, [dataOf(set, value)]))
  // NFTNL_UDATA_SET_ELEM_COMMENT: type 0, length, text with its end.
  if (comment !== undefined)
    attributes.push(attribute(6, Buffer.concat([Buffer.from([0, comment.length + 1]), text(comment)])))
  return attributes
}

/** Each part begins at a multiple of 4 bytes, in network order; the slot number is a number of this machine. */
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

function dataOf(set: string, value: string): Buffer {
  if (set.startsWith('slots')) {
    const [ip = '', port] = value.split(' . ')
    return attribute(1, Buffer.concat([ipToBytes(ip as Ip), port16(port)]))
  }
  const code = Buffer.alloc(4)
  code.writeInt32BE(NFT_GOTO)
  return nested(2, [attribute(1, code), attribute(2, text(value.slice('goto '.length)))])
}

function port16(value: string | undefined): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt16BE(Number(value))
  return bytes
}

export function type(message: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | message
}

/** nfgenmsg: family, version, resource in network order. */
export function header(family: number, resource = 0): Buffer {
  return Buffer.from([family, 0, resource >> 8, resource & 255])
}

export function frame(parts: {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly body: Buffer
}): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + parts.body.length)
  bytes.writeUInt32LE(bytes.length, 0)
  bytes.writeUInt16LE(parts.type, 4)
  bytes.writeUInt16LE(parts.flags, 6)
  bytes.writeUInt32LE(parts.sequence >>> 0, 8)
  parts.body.copy(bytes, HEADER_BYTES)
  return bytes
}

function attribute(kind: number, value: Uint8Array): Buffer {
  const bytes = Buffer.alloc((4 + value.length + 3) & ~3)
  bytes.writeUInt16LE(4 + value.length, 0)
  bytes.writeUInt16LE(kind, 2)
  bytes.set(value, 4)
  return bytes
}

function nested(kind: number, attributes: readonly Buffer[]): Buffer {
  return attribute(kind | NLA_F_NESTED, Buffer.concat(attributes))
}

function text(value: string): Buffer {
  return Buffer.from(`${value}\0`, 'latin1')
}
