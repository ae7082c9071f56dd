// The own counters: what must never be used twice. In a file of their own, because losing them costs an epoch.
import { createHash } from 'node:crypto'
import { z } from 'zod'

export interface Counters {
  readonly epoch: number
  /** Every seq up to this one may have been used: after a restart, go on above it. */
  readonly seqReserved: number
}

const schema = z.strictObject({
  version: z.literal(1),
  epoch: z.number().int().nonnegative(),
  seqReserved: z.number().int().nonnegative(),
  checksum: z.string()
})

export function encodeCounters({ epoch, seqReserved }: Counters): string {
  return `${JSON.stringify({ version: 1, epoch, seqReserved, checksum: checksum(epoch, seqReserved) })}\n`
}

/** Undefined: damaged. */
export function decodeCounters(text: string): Counters | undefined {
  const parsed = schema.safeParse(parseJson(text))
  if (!parsed.success) return undefined
  const { epoch, seqReserved } = parsed.data
  return parsed.data.checksum === checksum(epoch, seqReserved) ? { epoch, seqReserved } : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function checksum(epoch: number, seqReserved: number): string {
  return createHash('sha256').update(`${epoch}/${seqReserved}`).digest('hex').slice(0, 16)
}
