// Talks with nf_tables over netlink, to detect changes of one of our tables by other programs, and to make small
// changes of its elements without nft. The load balancer uses it for its table, src/io/host/watch.ts for that of the
// filter. The kernel gives each transaction a number (the generation) and sends an event for everything that it
// changed (docs/decisions/0034-nftables-state-trusted-by-generation.md).
// Invariants
//   1. `untouched` is true only if every transaction since `reset` is known, and none of another program names our
//      table. A lost event, a generation without its event, or an error counts as a change by another program.
//   2. A change is one batch: the kernel carries out the whole batch or nothing.
import { setTimeout as pause } from 'node:timers/promises'
import { encode, generationOf, type Message, messagesOf, type Outgoing } from './messages.ts'
import { frame } from '../../kernel/message.ts'
import { header, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, type } from '../../kernel/nfnetlink.ts'
import type { Element } from './table.ts'
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from '../../kernel/netlink.ts'

/** Observes and changes one table of the family inet. */
export interface NftKernel {
  /** Forgets all changes until now. Call it before a full reading of the table, so that none falls between the two. */
  reset(): void
  /** Returns whether only this agent has changed the table since `reset`. Takes 0.1 ms as a rule, about 2 s at most. */
  untouched(): Promise<boolean>
  /** Runs `work`, which changes the table by nft. If that is the only transaction meanwhile, it counts as our own. */
  owning<T>(work: () => Promise<T>): Promise<T>
  /**
   * Deletes, then adds elements in one transaction. 'refused': the kernel changed nothing. 'too-large': there are more
   * than 4,000 elements, and nothing was sent. 'late': the kernel has not answered within 10 s, because the transaction
   * of another program holds its lock; it may still carry out the change.
   */
  change(
    gone: readonly Element[],
    fresh: readonly Element[]
  ): Promise<'done' | 'refused' | 'too-large' | 'late'>
  /** Closes both sockets. The table stays. */
  close(): void
}

/** Two sockets, because on a single one answers to requests and events would be mixed. */
interface OpenSockets {
  readonly requests: NetlinkSocket
  readonly events: NetlinkSocket
}

/** undefined: this process can open no netlink socket (see openNetlink). */
function openNftSockets(): OpenSockets | undefined {
  const requests = openNetlink(NETLINK_NETFILTER)
  const events = openNetlink(NETLINK_NETFILTER)
  if (requests === undefined || events === undefined) {
    requests?.close()
    events?.close()
    return undefined
  }
  return { requests, events }
}

/** Opens the sockets in the network namespace of this process. undefined: the caller must use nft for everything. */
export function openNftKernel(table: string): NftKernel | undefined {
  const sockets = openNftSockets()
  try {
    return sockets && createNftKernel(table, sockets)
  } catch {
    // The kernel does not let the socket join the group of events.
    sockets?.requests.close()
    sockets?.events.close()
    return undefined
  }
}

// Names as in linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h and linux/netlink.h.
const NFNLGRP_NFTABLES = 7
const NFT_MSG_NEWGEN = 15
const NFT_MSG_GETGEN = 16
const BATCH_BEGIN = 16
const BATCH_END = 17
const NLMSG_ERROR = 2
const NLM_F_REQUEST = 1
const NLM_F_ACK = 4

// The kernel shows a new generation before it sends the event, usually less than 1 ms before. On a busy machine this
// file waits up to 20 × 5 ms for the event.
const EVENT_WAITS = 20
const EVENT_WAIT_MS = 5
// A change takes some milliseconds and has as long as a run of nft. The question for the generation needs no lock of
// the kernel, but it waits for a change of ours on the same socket.
const DEADLINES = { changeMs: 10_000, lookMs: 2000 }
const DRAIN_ERRORS_MAX = 8 // an overrun gives one error; after eight the socket itself must be broken
// 4,000 elements are 0.5 MB and take the kernel about 10 ms. For more, the time that nft needs to start matters little.
const ELEMENTS_MAX = 4000

/**
 * Returns the observer of a table, which has the state "touched" until `reset` is called. `deadlines` are in
 * milliseconds; tests shorten them. Throws a NetlinkError if the socket cannot join the group of events.
 */
export function createNftKernel(table: string, sockets: OpenSockets, deadlines = DEADLINES): NftKernel {
  const { requests, events } = sockets
  events.join(NFNLGRP_NFTABLES)
  let sequence = 0
  /** Netlink port of `requests`, by which events name this agent as the author of a change. */
  let ownPort: number | undefined
  /** The generation of the last event that was read; undefined: none yet, or events were lost. */
  let seen: number | undefined
  let touched = true

  let queue: Promise<unknown> = Promise.resolve()

  /** Allows one request at a time on its socket, so that each answer belongs to its request. */
  function exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work)
    queue = result.catch(() => undefined)
    return result
  }

  /** Reads all events that are there, without waiting. */
  function drain(): void {
    for (let errors = 0; errors < DRAIN_ERRORS_MAX;) {
      try {
        const datagram = events.receive()
        if (datagram === undefined) return
        for (const message of messagesOf(datagram)) note(message)
      } catch {
        errors++ // ENOBUFS is reported once; then the events that are left in the queue can be read
        touched = true
        seen = undefined
      }
    }
  }

  /**
   * Handles one event: records its generation, or that another program has changed the table. Events that our own
   * messages caused (ownPort) do not count as a change by another program.
   */
  function note(message: Message): void {
    if (message.type === NFT_MSG_NEWGEN) seen = generationOf(message)
    else if (message.table === table && message.family === NFPROTO_INET && message.port !== ownPort)
      touched = true
  }

  /** Asks the kernel for its generation now, and learns the port of our socket from the answer. */
  function generation(): Promise<number> {
    return exclusive(async () => {
      discard(requests)
      const question = {
        type: type(NFT_MSG_GETGEN),
        flags: NLM_F_REQUEST,
        sequence: ++sequence,
        body: header(0)
      }
      await requests.send(frame(question))
      for (let datagram = requests.receive(); datagram !== undefined; datagram = requests.receive())
        for (const message of messagesOf(datagram))
          if (message.type === NFT_MSG_NEWGEN) {
            ownPort = message.port
            return generationOf(message)
          }
      throw new Error('the kernel did not tell its nftables generation')
    })
  }

  /** Returns the current generation once its event has been read; undefined: an event is missing. Never rejects. */
  async function settle(): Promise<number | undefined> {
    try {
      const current = await within(generation(), deadlines.lookMs)
      if (current === undefined) return undefined
      drain()
      // No event has come since the socket was opened, so there was no transaction.
      seen ??= current
      for (let wait = 0; isBehind(seen, current) && wait < EVENT_WAITS; wait++) {
        await pause(EVENT_WAIT_MS)
        drain()
      }
      if (isBehind(seen, current)) return undefined
      return seen
    } catch {
      return undefined
    }
  }

  async function untouched(): Promise<boolean> {
    if ((await settle()) === undefined) {
      touched = true
      seen = undefined
    }
    return !touched
  }

  /** One transaction: BEGIN, the messages, END. Only the last message asks for an acknowledgement. */
  function batch(messages: readonly Outgoing[]): Buffer {
    const bound = { flags: NLM_F_REQUEST, body: header(0, NFNL_SUBSYS_NFTABLES) }
    const last = messages.length - 1
    return Buffer.concat([
      frame({ ...bound, type: BATCH_BEGIN, sequence: ++sequence }),
      ...messages.map(({ message, flags, body }, index) =>
        frame({
          type: type(message),
          flags: NLM_F_REQUEST | flags | (index === last ? NLM_F_ACK : 0),
          sequence: ++sequence,
          body
        })
      ),
      frame({ ...bound, type: BATCH_END, sequence: ++sequence })
    ])
  }

  return {
    reset() {
      drain()
      touched = false
    },
    untouched,
    async owning(work) {
      const before = (await untouched()) ? seen : undefined
      const result = await work()
      const isClean = await untouched()
      // The event of nft has another port than ours. It was the only transaction if the generation grew by one.
      if (!isClean && before !== undefined && seen === (before + 1) >>> 0) touched = false
      return result
    },
    async change(gone, fresh) {
      if (gone.length + fresh.length > ELEMENTS_MAX) return 'too-large'
      const messages = [...encode(table, 'delete', gone), ...encode(table, 'add', fresh)]
      if (messages.length === 0) return 'done'
      const work = (async () => {
        // Without `ownPort`, the event of this change would count as that of another program.
        if (ownPort === undefined) await generation()
        return exclusive(async () => {
          discard(requests)
          await requests.send(batch(messages))
          return answerOf(requests)
        })
      })()
      const result = await within(work, deadlines.changeMs)
      if (result !== undefined) return result
      // The kernel may still carry the change out, and readings until then do not have it. So the table counts as
      // changed by another program once the answer is there, and the next call reads it.
      void work.catch(() => undefined).finally(() => (touched = true))
      return 'late'
    },
    close() {
      requests.close()
      events.close()
    }
  }
}

/** Returns the result of `work`, or undefined after the deadline. A later error of `work` is ignored. */
async function within<T>(work: Promise<T>, deadlineMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), deadlineMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
    work.catch(() => undefined)
  }
}

/** Compares generations, which are 32-bit numbers that wrap around. */
function isBehind(seen: number, current: number): boolean {
  return ((current - seen) | 0) > 0
}

/** Reads and drops the answers to earlier requests, for which their callers did not wait until the end. */
function discard(socket: NetlinkSocket): void {
  try {
    while (socket.receive() !== undefined);
  } catch {
    // The receive queue has overrun; the lost answers are not needed.
  }
}

/**
 * Reads the answer to a batch, which the kernel has written by the time `send` resolves. Success is one
 * acknowledgement (NLMSG_ERROR with the number 0) for the last message, and no error.
 */
function answerOf(requests: NetlinkSocket): 'done' | 'refused' {
  let acknowledged = false
  try {
    for (let datagram = requests.receive(); datagram !== undefined; datagram = requests.receive())
      for (const { rawType, payload } of messagesOf(datagram)) {
        if (rawType !== NLMSG_ERROR) continue
        if (payload.readInt32LE(0) !== 0) return 'refused'
        acknowledged = true
      }
  } catch {
    return 'refused'
  }
  return acknowledged ? 'done' : 'refused'
}
