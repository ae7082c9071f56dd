// Asks the kernel questions over one netlink socket (netlink(7)) and gives the caller each message of the answer.
// Invariants
//   1. One question at a time is on the socket, and each has a number of its own. A message with another number, such as
//      a late answer to a question whose deadline has passed, is ignored.
//   2. An answer is whole or the question fails: a list that changed while the kernel wrote it (NLM_F_DUMP_INTR) is asked
//      for again.
import { setTimeout as pause } from 'node:timers/promises'
import { answersOf, frame, type Answer } from './message.ts'
import { openNetlink, type NetlinkSocket } from './netlink.ts'

/** A question without its number. */
interface Question {
  /** Type of the message, such as RTM_GETLINK. */
  readonly type: number
  /** What follows the head of the message. */
  readonly body: Buffer
  /** True: the kernel lists all that there are (NLM_F_DUMP). False: it answers with one message, or with an error. */
  readonly isList: boolean
}

/** Asks questions of one netlink protocol. */
export interface Questions {
  /**
   * Returns one value for each message of the answer that `read` does not answer with undefined, or the number of
   * errno(3) with which the kernel refuses. Rejects if the kernel does not answer within 2 s, or if the list has changed
   * each of the 5 times that it was asked for.
   */
  ask<T>(question: Question, read: (answer: Answer) => T | undefined): Promise<readonly T[] | number>
}

// Names as in linux/netlink.h.
const NLM_F_REQUEST = 1
const NLM_F_ACK = 4
const NLM_F_DUMP = 0x300
const NLM_F_DUMP_INTR = 16
const NLMSG_ERROR = 2
const NLMSG_DONE = 3

const TRIES = 5
// The kernel answers within 1 ms, but it waits for its lock while another program changes many devices or routes.
const DEADLINE_MS = 2_000

/** Returns undefined where this process can open no such socket (netlink.ts). */
export function openQuestions(protocol: number): Questions | undefined {
  const socket = openNetlink(protocol)
  if (socket === undefined) return undefined
  socket.beStrict()
  let number = 0
  let queue: Promise<unknown> = Promise.resolve()
  return {
    ask(question, read) {
      const result = queue.then(() => answered(socket, question, { read, next: () => ++number >>> 0 }))
      queue = result.catch(() => undefined)
      return result
    }
  }
}

async function answered<T>(
  socket: NetlinkSocket,
  question: Question,
  { read, next }: { readonly read: (answer: Answer) => T | undefined; readonly next: () => number }
): Promise<readonly T[] | number> {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const sequence = next()
    await inTime(socket.send(frame({ ...question, flags: flagsOf(question), sequence })))
    const values = valuesOf(socket, sequence, read)
    if (values !== 'changed') return values
  }
  throw new Error(`a list of the kernel changed each of the ${TRIES} times that it was read`)
}

function flagsOf({ isList }: Question): number {
  return NLM_F_REQUEST | (isList ? NLM_F_DUMP : NLM_F_ACK)
}

/** Reads until the end of the answer, which the kernel has begun by the time that `send` resolves. */
function valuesOf<T>(
  socket: NetlinkSocket,
  sequence: number,
  read: (answer: Answer) => T | undefined
): readonly T[] | number | 'changed' {
  const values: T[] = []
  let isChanged = false
  for (let datagram = socket.receive(); datagram !== undefined; datagram = socket.receive())
    for (const answer of answersOf(datagram)) {
      if (answer.sequence !== sequence) continue
      if ((answer.flags & NLM_F_DUMP_INTR) !== 0) isChanged = true
      if (answer.type === NLMSG_ERROR || answer.type === NLMSG_DONE) {
        const errno = answer.payload.length < 4 ? 0 : -answer.payload.readInt32LE(0)
        return errno > 0 ? errno : isChanged ? 'changed' : values
      }
      const value = read(answer)
      if (value !== undefined) values.push(value)
    }
  throw new Error('the kernel ended its answer too early')
}

async function inTime(work: Promise<void>): Promise<void> {
  const giveUp = new AbortController()
  const late = pause(DEADLINE_MS, 'late', { signal: giveUp.signal }).catch(() => undefined)
  try {
    if ((await Promise.race([work, late])) === 'late')
      throw new Error(`the kernel did not answer within ${DEADLINE_MS / 1000} s`)
  } finally {
    giveUp.abort()
    work.catch(() => undefined) // an error after the deadline
  }
}
