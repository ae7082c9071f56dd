// The counters of this agent's own origin, as they are encoded in `counters.json` and, a second time, in the database.
// An epoch must never be used twice: two heads for one position freeze the origin (docs/replication.md, P4). They have
// a file of their own so that an agent whose replica is lost still knows an epoch to start above.
import { createHash } from 'node:crypto'
import * as z from 'zod'

/** Counters that only grow. */
export interface Counters {
  /** The highest epoch in which this agent has published; 0 before the first. */
  readonly epoch: number
  /**
   * Every seq up to this one may have been used. The agent reserves none (0): its own batches are synced before they
   * are sent.
   */
  readonly seqReserved: number
}

const schema = z.strictObject({
  version: z.literal(1),
  epoch: z.number().int().nonnegative(),
  seqReserved: z.number().int().nonnegative(),
  checksum: z.string()
})

/** Encodes the counters as one line of JSON with a checksum. */
export function encodeCounters({ epoch, seqReserved }: Counters): string {
  return `${JSON.stringify({ version: 1, epoch, seqReserved, checksum: checksum(epoch, seqReserved) })}\n`
}

/** Decodes counters; undefined when the text is damaged, of another version, or fails its checksum. Never throws. */
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

/** The first 16 hexadecimal digits of SHA-256. They find damage; they protect from no attacker. */
function checksum(epoch: number, seqReserved: number): string {
  return createHash('sha256').update(`${epoch}/${seqReserved}`).digest('hex').slice(0, 16)
}
