// The protocol between an agent and its responder process, over a unix socket that only their user can open.
//
// A frame is a length of four bytes, a form of one byte, and the body. Form J is JSON: every version must understand
// `hello`, `welcome` and `stop`, because a new agent meets the responder of the previous version. Form V is the output
// of v8.serialize: fast, but only for processes of the same version.
import { deserialize, serialize } from 'node:v8'

import type { ClusterName } from '../../../core/model/values.ts'
import type { NamesMessage } from '../../../core/dns/names-feed.ts'
import type { DnsProblem } from '../problems.ts'
import type { SocketAddress } from '../upstreams.ts'

/**
 * The settings that may change while the process runs; the addresses to listen on may not (responder.ts, invariant 1).
 */
export interface ServerSettings {
  /**
   * Addresses such as "10.0.0.2:53", without paths: the agent reads files, since the process may lack the right to do
   * so.
   */
  readonly upstreams: readonly string[]
  /** Prefixes of clients that are allowed in addition to this host. */
  readonly allow: readonly string[]
  /** Seconds for which names are answered without an agent, 0 to 86,400 (setting dns-outlive-seconds). */
  readonly outliveSeconds: number
}

/** Messages of the agent. */
export type ToResponder =
  /** The first message of a connection; the responder answers `welcome`. */
  | { readonly kind: 'hello'; readonly version: string }
  /** The process answers the queries that have arrived, as far as it needs no upstream, then ends. */
  | { readonly kind: 'stop' }
  /** Answered with `listening` or `listenFailed`. A process that listens already answers with its present addresses. */
  | {
      readonly kind: 'listen'
      readonly listen: readonly SocketAddress[]
      readonly settings: ServerSettings
      /** Milliseconds for which binding is retried while another process has the port. */
      readonly patienceMs: number
    }
  | { readonly kind: 'settings'; readonly settings: ServerSettings }
  | { readonly kind: 'names'; readonly messages: readonly NamesMessage[] }

/** Messages of the responder. */
export type ToAgent =
  | {
      readonly kind: 'welcome'
      readonly version: string
      readonly pid: number
      /** The addresses that were asked for; empty while it listens nowhere. */
      readonly wanted: readonly SocketAddress[]
      readonly listening: readonly SocketAddress[]
      /** The clusters whose whole catalogue the process has from an earlier agent. */
      readonly complete: readonly ClusterName[]
    }
  | { readonly kind: 'listening'; readonly listening: readonly SocketAddress[] }
  /** Binding failed with this DnsError, of which only code, message and fix are sent. */
  | { readonly kind: 'listenFailed'; readonly code: string; readonly message: string; readonly fix: string }
  /** A sentence for the agent's log. */
  | { readonly kind: 'warning'; readonly message: string }
  /** All lasting problems, after `welcome` and after each change. */
  | { readonly kind: 'problems'; readonly problems: readonly DnsProblem[] }
  /** Sent several times a second, even when empty, as a sign of life. */
  | { readonly kind: 'counts'; readonly counts: readonly QueryCount[] }

/** The number of queries of one zone and rcode, grouped by the time they took. */
export interface QueryCount {
  readonly zone: string
  readonly rcode: string
  /** Pairs of a duration in seconds, rounded by `secondsStep`, and the number of queries. */
  readonly seconds: readonly (readonly [seconds: number, count: number])[]
}

/** More than any frame of names has: client.ts begins another frame after 32 KiB. */
const FRAME_BYTES_MAX = 64 * 1024 * 1024
/** The letters J and V in ASCII. */
const [JSON_FORM, V8_FORM] = [0x4a, 0x56]
/** The kinds of messages that every version must be able to read. */
const STABLE: ReadonlySet<string> = new Set(['hello', 'welcome', 'stop'])

/** Encodes one message with its header of five bytes. */
export function encodeFrame(message: ToResponder | ToAgent): Uint8Array {
  const stable = STABLE.has(message.kind)
  const body = stable ? Buffer.from(JSON.stringify(message)) : serialize(message)
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length + 1, 0)
  head[4] = stable ? JSON_FORM : V8_FORM
  return Buffer.concat([head, body])
}

/** Cuts a stream into messages. Throws on a malformed frame, since the other side is then not a responder or agent. */
export class FrameReader {
  #chunks: Uint8Array[] = []
  #bytes = 0

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
  }

  /**
   * Returns the next message, or undefined until more bytes have come. The fields other than `kind` are not checked.
   */
  next(): { readonly kind: string } | undefined {
    if (this.#bytes < 5) return undefined
    const length = this.#first(5).readUInt32BE(0)
    if (length < 1 || length > FRAME_BYTES_MAX)
      throw new Error(`a frame has ${length} bytes; it must have 1 … ${FRAME_BYTES_MAX}`)
    if (this.#bytes < 4 + length) return undefined
    const all = this.#first(4 + length)
    const rest = all.subarray(4 + length)
    this.#chunks = rest.length > 0 ? [rest, ...this.#chunks.slice(1)] : this.#chunks.slice(1)
    this.#bytes -= 4 + length
    return decodeBody(all[4] ?? 0, all.subarray(5, 4 + length))
  }

  /** Joins as many chunks as needed so that the first one has at least `bytes` bytes. */
  #first(bytes: number): Buffer {
    let count = 0
    for (let sum = 0; sum < bytes && count < this.#chunks.length; count++)
      sum += this.#chunks[count]?.length ?? 0
    const [first] = this.#chunks
    if (count <= 1 && first !== undefined) return Buffer.from(first.buffer, first.byteOffset, first.length)
    const joined = Buffer.concat(this.#chunks.slice(0, count))
    this.#chunks = [joined, ...this.#chunks.slice(count)]
    return joined
  }
}

function decodeBody(form: number, body: Uint8Array): { readonly kind: string } {
  const value: unknown =
    form === JSON_FORM
      ? JSON.parse(Buffer.from(body).toString())
      : form === V8_FORM
        ? deserialize(body)
        : undefined
  if (typeof value !== 'object' || value === null || !('kind' in value) || typeof value.kind !== 'string')
    throw new Error('a frame does not contain a message')
  return value as { readonly kind: string }
}

/**
 * Rounds a duration in seconds to two significant digits, at least 1 µs. This is finer than any bucket of the metric,
 * and there are few such numbers, so that many queries make one pair in `QueryCount`.
 */
export function secondsStep(seconds: number): number {
  if (!(seconds > 1e-6)) return 1e-6
  const decade = 10 ** Math.floor(Math.log10(seconds))
  return Math.round(seconds / (decade / 10)) * (decade / 10)
}
