// Uses nf_tables over netlink (linux/netfilter/nf_tables.h) to detect changes of our table by other programs and to make small changes of
// its elements.
// Invariants
//   1. `untouched` is true only if every transaction since `reset` is known, and none of another program names our table. A lost event,
//      a generation without its event, an error: all count as touched.
//   2. A change is one batch: the kernel takes all of it or nothing.
import { setTimeout as pause } from 'node:timers/promises'
import {
  encode,
  frame,
  generationOf,
  header,
  type Message,
  messagesOf,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO_INET,
  type Outgoing,
  type
} from './messages.ts'
import type { Element } from './table.ts'
import { NETLINK_NETFILTER, openNetlink, type NetlinkSocket } from '../../tools/netlink.ts'

export interface NftKernel {
  /** Forgets what happened until now. Call before a full read of the table. */
  reset(): void
  /** Whether only we have changed the table since `reset`. */
  untouched(): Promise<boolean>
  /** Runs a change by another tool: if it is the only transaction meanwhile, it counts as our own. */
  owning<T>(work: () => Promise<T>): Promise<T>
  /**
   * Deletes, then adds. 'refused': the kernel changed nothing. 'too-large': so many need the tool. 'late': the kernel has not answered within
   * 10 s, as another program's transaction holds its lock, and may still do it.
   */
  change(
    gone: readonly Element[],
    fresh: readonly Element[]
  ): Promise<'done' | 'refused' | 'too-large' | 'late'>
  close(): void
}

export interface OpenSockets {
  readonly requests: NetlinkSocket
  readonly events: NetlinkSocket
}

/** undefined: this process has no netlink sockets. */
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

/** For the network namespace of this process. */
export function openNftKernel(table: string): NftKernel | undefined {
  const sockets = openNftSockets()
  try {
    return sockets && createNftKernel(table, sockets)
  } catch {
    // The kernel has no such events: nft does everything.
    sockets?.requests.close()
    sockets?.events.close()
    return undefined
  }
}

const NFNLGRP_NFTABLES = 7
const NFT_MSG_NEWGEN = 15
const NFT_MSG_GETGEN = 16
const BATCH_BEGIN = 16
const BATCH_END = 17
const NLMSG_ERROR = 2
const NLM_F_REQUEST = 1
const NLM_F_ACK = 4

// A commit is visible before its event is sent: the time between is a fraction of a millisecond, unless the machine is busy.
const EVENT_WAITS = 20
const EVENT_WAIT_MS = 5
// A change takes some milliseconds and has as long as a run of nft. The generation needs no lock: it waits for a change of ours only.
const DEADLINES = { changeMs: 10_000, lookMs: 2000 }
const DRAIN_ERRORS_MAX = 8 // an overrun is one error; a socket that only fails is left
// 4,000 elements are 0.5 MB and take the kernel about 10 ms. More come through nft, which is quicker to start than to wait for then.
const ELEMENTS_MAX = 4000

export function createNftKernel(table: string, sockets: OpenSockets, deadlines = DEADLINES): NftKernel {
  const { requests, events } = sockets
  events.join(NFNLGRP_NFTABLES)
  let sequence = 0
  /** The port of `requests`, by which the kernel names us in events. */
  let ownPort: number | undefined
  let seen: number | undefined
  let touched = true

  let queue: Promise<unknown> = Promise.resolve()

  /** One request at a time on its socket, so that an answer belongs to its question. */
  function exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work)
    queue = result.catch(() => undefined)
    return result
  }

  /** Reads what has happened, without waiting. */
  function drain(): void {
    for (let errors = 0; errors < DRAIN_ERRORS_MAX;) {
      try {
        const datagram = events.receive()
        if (datagram === undefined) return
        for (const message of messagesOf(datagram)) note(message)
      } catch {
        errors++ // ENOBUFS is told once, and what is left of the queue follows
        touched = true
        seen = undefined
      }
    }
  }

  function note(message: Message): void {
    if (message.type === NFT_MSG_NEWGEN) seen = generationOf(message)
    else if (message.table === table && message.family === NFPROTO_INET && message.port !== ownPort)
      touched = true
  }

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

  /** The generation whose event has been read; undefined: some event is missing. */
  async function settle(): Promise<number | undefined> {
    try {
      const current = await within(generation(), deadlines.lookMs)
      if (current === undefined) return undefined
      drain()
      // No event yet since we listen: nothing has happened.
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
      if (!isClean && before !== undefined && seen === (before + 1) >>> 0) touched = false
      return result
    },
    async change(gone, fresh) {
      if (gone.length + fresh.length > ELEMENTS_MAX) return 'too-large'
      const messages = [...encode(table, 'delete', gone), ...encode(table, 'add', fresh)]
      if (messages.length === 0) return 'done'
      const work = (async () => {
        if (ownPort === undefined) await generation()
        return exclusive(async () => {
          discard(requests)
          await requests.send(batch(messages))
          return answerOf(requests)
        })
      })()
      const result = await within(work, deadlines.changeMs)
      if (result !== undefined) return result
      // Whenever it is done after all, what was read meanwhile does not have it.
      void work.catch(() => undefined).finally(() => (touched = true))
      return 'late'
    },
    close() {
      requests.close()
      events.close()
    }
  }
}

/** undefined: not within that time. */
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

/** Wraps around at 2^32. */
function isBehind(seen: number, current: number): boolean {
  return ((current - seen) | 0) > 0
}

function discard(socket: NetlinkSocket): void {
  try {
    while (socket.receive() !== undefined);
  } catch {
    // The receive queue has overrun; the lost answers are not needed.
  }
}

/** Success is one acknowledgement, for the last message, and no error. */
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
