// Reads the two copies of the identity when the store is opened, chooses the sound one and writes the other anew. The
// identity cannot be pulled from peers, so damage to one file must not cost the membership.
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { StoreError, storeError } from './errors.ts'
import { readFileIfAny, writeFileAtomic } from './files.ts'
import { BACKUP, IDENTITY, newer } from './folder.ts'
import { decodeIdentity, encodeIdentity, IDENTITY_VERSION, type Identity } from './identity.ts'

type IdentityCopies = Readonly<Record<'main' | 'backup', IdentityCopy>>
/** The state of one file. `corrupt` has a reason without any content of the file. */
type IdentityCopy =
  | { readonly kind: 'missing' }
  | { readonly kind: 'ok'; readonly identity: Identity; readonly text: string }
  | { readonly kind: 'corrupt'; readonly reason: string }

/**
 * Reads both copies and changes nothing. Rejects with StoreError STORE_NEWER when a later version of this program wrote
 * one.
 */
export async function readIdentity(folder: string): Promise<IdentityCopies> {
  return { main: await readCopy(join(folder, IDENTITY)), backup: await readCopy(join(folder, BACKUP)) }
}

async function readCopy(path: string): Promise<IdentityCopy> {
  const text = await readFileIfAny(path)
  if (text === undefined) return { kind: 'missing' }
  const file = decodeIdentity(text)
  if (file.kind === 'newer') throw newer(path, file.version, IDENTITY_VERSION)
  return file.kind === 'ok' ? { kind: 'ok', identity: file.identity, text } : file
}

/**
 * Returns the identity of the sound copy (`main` when both are sound) and writes it over the other one; a damaged file
 * is renamed first, with a warning. Returns undefined when both are missing, as at the first start. Rejects with
 * StoreError IDENTITY_CORRUPT when neither is sound; the files then stay in place, so that the next start cannot
 * mistake this for a first start.
 */
export async function settleIdentity(
  folder: string,
  { main, backup }: IdentityCopies,
  stamp: string,
  warnings: string[]
): Promise<Identity | undefined> {
  const [path, backupPath] = [join(folder, IDENTITY), join(folder, BACKUP)]
  if (main.kind === 'ok') {
    if (backup.kind === 'corrupt') {
      await setAside(backupPath, join(folder, `identity.corrupt-${stamp}.bak.json`))
      warnings.push(
        `${backupPath} was damaged (${backup.reason}); the agent has moved it away and written it again`
      )
    }
    if (backup.kind !== 'ok' || backup.text !== main.text) await writeFileAtomic(backupPath, main.text)
    return main.identity
  }
  if (backup.kind === 'ok') {
    if (main.kind === 'corrupt') await setAside(path, join(folder, `identity.corrupt-${stamp}.json`))
    await writeFileAtomic(path, backup.text)
    const why =
      main.kind === 'corrupt' ? `was damaged (${main.reason}) and has been moved away` : 'was missing'
    warnings.push(`${path} ${why}; the agent uses the copy ${backupPath}`)
    return backup.identity
  }
  const damaged = main.kind === 'corrupt' ? main : backup
  if (damaged.kind === 'missing') return undefined
  throw new StoreError(
    'IDENTITY_CORRUPT',
    `the identity in ${path} and its copy cannot be used: ${damaged.reason}`,
    {
      path,
      fix: `restore ${IDENTITY} from a backup; or, to join again with a new token, move both ${IDENTITY} and ${BACKUP} away`
    }
  )
}

/**
 * Moves away each copy that holds something other than this identity, such as a backup of another agent that was put
 * in its place while this agent runs: the next start would take its keys. The moved file has "replaced" in its name,
 * because it may be the only copy of another identity. A copy that is missing is left to the caller.
 */
export async function setAsideReplaced(folder: string, identity: Identity): Promise<void> {
  for (const name of [IDENTITY, BACKUP]) {
    const path = join(folder, name)
    const text = await readFileIfAny(path)
    if (text === undefined || holds(text, identity, path)) continue
    await setAside(path, join(folder, name.replace('identity', 'identity.replaced')))
  }
}

/** Compares what is meant, because an earlier release may have written the same identity in another form. */
function holds(text: string, identity: Identity, path: string): boolean {
  const own = encodeIdentity(identity, path)
  if (text === own) return true
  const file = decodeIdentity(text)
  return file.kind === 'ok' && encodeIdentity(file.identity, path) === own
}

async function setAside(path: string, aside: string): Promise<void> {
  try {
    await rename(path, aside)
  } catch (error) {
    throw storeError(error, path)
  }
}
