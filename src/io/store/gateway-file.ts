// The invites of further gateways that this agent has made, in a file of their own (gateways.json). They are not a part of
// the identity: two writers of one file could lose the line that says who has used an invite, and a token would then give
// the key of the cluster twice.
// Invariants
//   1. `save` is durable when it resolves, and a failed one changes nothing.
//   2. It never holds more than `openGatewayFile` reads: the oldest invites are dropped, after which their tokens give nothing.
//   3. After `close` nothing is written: the next agent on the folder may have given a key by an invite already.
//   4. A damaged file is set aside and counts as empty: its invites give nothing any more.
import { createHash } from 'node:crypto'
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import type { Origin } from '../../core/model/values.ts'
import type { GatewayInvite } from '../../core/trust/door/judge-gateway.ts'
import type { KeyId } from '../../core/trust/set/ids.ts'
import { removeFile, readFileIfAny, writeFileAtomic } from './files.ts'
import { Turns } from './turns.ts'

const NAME = 'gateways.json'
/** The app keeps 64 open ones, and each used or expired one for 30 days. */
const INVITES_MAX = 1024

const key = z.string().regex(/^[0-9a-f]{64}$/)
const invites = z
  .array(
    z.strictObject({
      key,
      clusterKey: key,
      /** Unix seconds. */
      notAfter: z.number().int().nonnegative(),
      usedBy: z.string().min(1).max(128).optional()
    })
  )
  .max(INVITES_MAX)
const file = z.strictObject({ version: z.literal(1), checksum: z.string(), invites })

/** The file, with its content in memory. One per process; calls of `save` and `clear` run one after the other. */
export interface GatewayFile {
  /** A sentence about a file that was set aside when it was opened; else undefined. */
  readonly warning: string | undefined
  invites(): readonly GatewayInvite[]
  /** Replaces the content. Rejects with StoreError DISK_FULL, STORE_READONLY or STORE_FAILED. */
  save(invites: readonly GatewayInvite[]): Promise<void>
  /** Removes the file. */
  clear(): Promise<void>
  /** Resolves after the writes that were begun. Later ones reject with STORE_CLOSED. */
  close(): Promise<void>
}

/** Reads the file in the state folder, which the store has opened already. Rejects with StoreError. */
export async function openGatewayFile(folder: string): Promise<GatewayFile> {
  const path = join(folder, NAME)
  const text = await readFileIfAny(path)
  const read = text === undefined ? [] : decode(text)
  if (read === undefined) await rename(path, `${path}.corrupt`)
  let known = read ?? []
  const turns = new Turns(path)
  return {
    warning:
      read === undefined
        ? `${path} was damaged and is set aside as ${NAME}.corrupt; invites of gateways that this agent has made give nothing any more`
        : undefined,
    invites: () => known,
    save: (next) =>
      turns.run(async () => {
        const bounded = next.slice(-INVITES_MAX)
        await writeFileAtomic(path, encode(bounded))
        known = bounded
      }),
    clear: () =>
      turns.run(async () => {
        known = []
        await removeFile(path)
      }),
    close: () => turns.end()
  }
}

function encode(list: readonly GatewayInvite[]): string {
  const body = list.map(({ key: of, clusterKey, notAfter, usedBy }) => ({
    key: of,
    clusterKey,
    notAfter,
    ...(usedBy === undefined ? {} : { usedBy })
  }))
  return `${JSON.stringify({ version: 1, checksum: checksum(body), invites: body }, undefined, 2)}\n`
}

/** undefined: the text is damaged. */
function decode(text: string): readonly GatewayInvite[] | undefined {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return undefined // not JSON
  }
  const parsed = file.safeParse(json)
  if (!parsed.success || checksum(parsed.data.invites) !== parsed.data.checksum) return undefined
  return parsed.data.invites.map(({ usedBy, ...rest }) => ({
    key: rest.key as KeyId,
    clusterKey: rest.clusterKey as KeyId,
    notAfter: rest.notAfter,
    usedBy: usedBy as Origin | undefined
  }))
}

/** The first 16 hexadecimal digits of SHA-256. They find damage; they protect from no attacker. */
function checksum(body: unknown): string {
  return createHash('sha256').update(JSON.stringify(body)).digest('hex').slice(0, 16)
}
