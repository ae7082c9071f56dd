// Reads the two copies of the counters when the store is opened: counters.json and a row of the database.
// Invariant: a copy that is damaged or behind never lowers the counters, because an epoch must not be used twice.
import { join } from 'node:path'
import { decodeCounters, type Counters } from './counters.ts'
import { readFileIfAny } from './files.ts'
import { COUNTERS } from './folder.ts'
import type { Contents } from './scan.ts'

/**
 * Returns the higher of the two saved counters, that of the file and that of the database; undefined when neither is
 * sound.
 */
export async function readCounters(
  folder: string,
  contents: Contents,
  warnings: string[]
): Promise<Counters | undefined> {
  const path = join(folder, COUNTERS)
  const text = await readFileIfAny(path)
  const ofFile = text === undefined ? undefined : decodeCounters(text)
  if (text !== undefined && ofFile === undefined)
    warnings.push(`${path} is damaged, so the agent raises its epoch`)
  const meta = contents.meta.get('counters')
  const ofDatabase = meta === undefined ? undefined : decodeCounters(new TextDecoder().decode(meta))
  if (ofFile === undefined || ofDatabase === undefined) return ofFile ?? ofDatabase
  return isBelow(ofFile, ofDatabase) ? ofDatabase : ofFile
}

/** Whether the first counters are behind the second ones. */
export function isBelow(a: Counters, b: Counters): boolean {
  return a.epoch < b.epoch || (a.epoch === b.epoch && a.seqReserved < b.seqReserved)
}
