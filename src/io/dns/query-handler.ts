// Turns the bytes of a query into the bytes of its answer, without a socket. Questions for names of the mesh are
// answered at once; all other questions are forwarded to the upstreams.
// Invariants:
//  1. After an error of this program one client gets SERVFAIL, or no answer when the bytes are no query. Such an error
//     never ends the process.
//  2. Every query is reported to `onQuery` once, with labels from bounded sets.
import type { Names } from '../../core/dns/names.ts'
import { chase } from './chase.ts'
import { fitted, forClient, rcodeName } from './forwarded.ts'
import type { Forwarder } from './forwarder.ts'
import { parseQuery, type Query } from './query.ts'
import { outcomeOf, typeName, type Outcome } from './responder.ts'
import { bare, respond, type Encoded } from './response.ts'
import { questionOf } from './upstream-message.ts'

type Transport = 'udp' | 'tcp'

/** Returns the answer at once, or later when an upstream is asked. undefined: the message must not be answered. */
export type HandleQuery = (
  message: Uint8Array,
  transport: Transport,
  /** The client's address, as sockets report it. */
  client: string
) => Uint8Array | undefined | Promise<Uint8Array | undefined>

/** One query, for metrics. */
export interface QueryMetrics {
  readonly transport: Transport
  /**
   * "cluster.east", "cluster.all", "reverse", "unknown" (no such cluster), "upstream", "stranger" (a client that is not
   * allowed), or "none" (rejected): a bounded set.
   */
  readonly zone: string
  /** "A", "SRV", …, or "other": few enough for a label. */
  readonly type: string
  readonly rcode: string
  readonly outcome: 'answered' | 'forwarded' | 'rejected' | 'dropped'
  /** The time from the arrival of the query until its answer is ready. */
  readonly seconds: number
}

interface QueryHandlerOptions {
  /** Read for every query. */
  readonly names: () => Names
  /** Read for every query. */
  readonly forwarder: () => Forwarder
  /** Says whether a client at this address gets an answer other than REFUSED (access.ts). */
  readonly allows: (client: string) => boolean
  readonly onQuery: ((metrics: QueryMetrics) => void) | undefined
  readonly onWarning: (message: string, error: unknown) => void
}

/** One message on its way to an answer. */
interface Received {
  readonly message: Uint8Array
  readonly transport: Transport
  readonly client: string
  /** The time of arrival, from performance.now(). */
  readonly startedMs: number
  /** 0 to 65,535. An answer with several addresses begins with the one at this number modulo their count. */
  readonly rotation: number
}

/** Returns the function that answers each message. It keeps no state between messages. */
export function createQueryHandler(options: QueryHandlerOptions): HandleQuery {
  const { names, forwarder, allows, onQuery, onWarning } = options
  return handle

  function handle(message: Uint8Array, transport: Transport, client: string): ReturnType<HandleQuery> {
    const failed = (error: unknown): Uint8Array | undefined => {
      onWarning('a DNS query could not be handled', error)
      const parsed = parseQuery(message)
      if (parsed.kind === 'drop') return undefined
      return respond(parsed.query, bare('SERVFAIL'), { transport, rotation: 0, recursionAvailable: false })
    }
    try {
      // The rotation is random. With a counter, a client that asks A and AAAA in turn would see every second address
      // only.
      const rotation = Math.floor(Math.random() * 0x10000)
      const response = answer({ message, transport, client, startedMs: performance.now(), rotation })
      return response instanceof Promise ? response.catch(failed) : response
    } catch (error) {
      return failed(error)
    }
  }

  /**
   * Answers one message. In this order it treats: messages that are no query (no answer), clients that are not allowed
   * (REFUSED), queries that are not supported, and probes of our own that an upstream has sent back (NXDOMAIN; they
   * must not be forwarded again). All others go to `answerQuery`.
   */
  function answer(received: Received): ReturnType<HandleQuery> {
    const parsed = parseQuery(received.message)
    if (parsed.kind === 'drop') {
      report(received, { outcome: 'dropped', rcode: 'NONE', zone: 'none' })
      return undefined
    }
    const { query } = parsed
    if (!allows(received.client)) return reply(received, query, 'rejected', STRANGER)
    if (parsed.kind === 'reject') return reply(received, query, 'rejected', bare(parsed.rcode))
    if (forwarder().isProbe(query.key)) return reply(received, query, 'answered', bare('NXDOMAIN'))
    return answerQuery(received, query)
  }

  /**
   * Answers a query by the names of the mesh or by the upstreams. Without upstreams, names outside the mesh are
   * REFUSED, and a CNAME to a name outside the mesh is sent without the records of its target.
   */
  function answerQuery(received: Received, query: Query): Uint8Array | Promise<Uint8Array> {
    const outcome = safeOutcome(query, received.rotation)
    const upstreams = forwarder()
    const canForward = upstreams.upstreams.length > 0
    switch (outcome.kind) {
      case 'answer':
        return reply(received, query, 'answered', outcome.encoded)
      case 'chase':
        if (!canForward) return reply(received, query, 'answered', outcome.encoded)
        return chase(upstreams, query, { ...outcome, client: received.client }).then((encoded) =>
          reply(received, query, 'forwarded', encoded)
        )
      case 'forward':
        if (!canForward) return reply(received, query, 'rejected', bare('REFUSED'))
        return forward(upstreams, received, query)
      default:
        return outcome satisfies never
    }
  }

  /** Passes the upstream's answer on, cut to the size that this client can take. */
  async function forward(upstreams: Forwarder, received: Received, query: Query): Promise<Uint8Array> {
    const { transport, client } = received
    const found = await upstreams.exchange(questionOf(query, transport), client)
    if (found === undefined) return reply(received, query, 'forwarded', NO_UPSTREAM)
    const response = forClient(found.message, query)
    report(received, { outcome: 'forwarded', rcode: rcodeName(response), zone: 'upstream' }, query)
    return fitted(response, query, transport)
  }

  /**
   * Returns what to do with the query. If the answer cannot be computed or encoded, it is SERVFAIL; other queries are
   * not affected.
   */
  function safeOutcome(query: Query, rotation: number): Outcome {
    try {
      return outcomeOf(names(), query, rotation)
    } catch (error) {
      onWarning(`the DNS question for ${query.name} could not be answered`, error)
      return { kind: 'answer', encoded: bare('SERVFAIL') }
    }
  }

  /** Encodes an answer for this client and reports it. */
  function reply(
    received: Received,
    query: Query,
    outcome: QueryMetrics['outcome'],
    encoded: Encoded
  ): Uint8Array {
    const { transport, rotation } = received
    const recursionAvailable = forwarder().upstreams.length > 0
    const response = respond(query, encoded, { transport, rotation, recursionAvailable })
    report(received, { outcome, rcode: encoded.rcode, zone: encoded.zone }, query)
    return response
  }

  function report(
    { transport, startedMs }: Received,
    about: Pick<QueryMetrics, 'outcome' | 'rcode' | 'zone'>,
    query?: Query
  ): void {
    const seconds = (performance.now() - startedMs) / 1000
    onQuery?.({ ...about, transport, type: metricType(query), seconds })
  }
}

/** Types that core has no records of are one label, since a client may ask for any of 65,536. */
function metricType(query: Query | undefined): string {
  const name = query === undefined ? '' : typeName(query.type)
  return name === '' || name.startsWith('TYPE') ? 'other' : name
}

const STRANGER: Encoded = { ...bare('REFUSED'), zone: 'stranger' }
const NO_UPSTREAM: Encoded = { ...bare('SERVFAIL'), zone: 'upstream' }
