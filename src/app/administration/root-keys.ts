// The root keys of a mesh, in files under a passphrase: all in one, or each in one of its own (a share), so that no single
// file can sign where k of n must.
// Invariants
//   1. Root seeds leave an agent only inside a file that is sealed with a passphrase. They are removed here only when the
//      operator has shown that the files can be read (`rootExported`), or gives up those that the mesh can do without.
//   2. Imported seeds are in memory only: no disk and no Secret gets them, and a restart or a leave forgets them.
import { createHash } from 'node:crypto'
import * as z from 'zod'
import type { DoneAnswer, RootFileAnswer } from '../../api/trust-answers.ts'
import { equalBytes } from '../../core/model/bytes.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import { seal, unseal } from '../../io/crypto/passphrase-seal.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import type { Body } from '../admin/answer-body.ts'
import { base64, bytes } from '../identity/encoding.ts'
import { checkNewPassphrase } from '../identity/passphrase.ts'
import { AppError } from '../observe/errors.ts'
import type { CurrentSession } from '../session/current-session.ts'

/** The kind of the file, authenticated with the content, so that another sealed file is no root file. */
const ROOT_FILE = 'rhizome root keys 1'

/** The file as a person sees it: its kind, the mesh, and the sealed seeds. */
const rootFileSchema = z.looseObject({ kind: z.literal(ROOT_FILE), meshId: z.string(), sealed: z.unknown() })
/** What the sealed part holds: seeds in base64. */
const rootSeedsSchema = z.strictObject({ rootSeeds: z.array(z.string()).min(1).max(5) })

/** The session with the roots of the mesh, and the identity with their seeds. */
interface RootKeysOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly crypto: Crypto
}

/** A root key of the mesh. */
interface Share {
  /** Its number, from 1, in the order of the sorted public keys. */
  readonly share: number
  readonly key: Uint8Array
  /** undefined: it is not here. */
  readonly seed: Uint8Array | undefined
  readonly isOnDisk: boolean
  readonly isInFile: boolean
}

/** See the head of this file. */
export class RootKeys {
  readonly #options: RootKeysOptions
  /** Seeds that `importRoot` took from files. They are on no disk and in no Secret. */
  #imported: readonly Uint8Array[] = []

  constructor(options: RootKeysOptions) {
    this.#options = options
  }

  /**
   * The seeds of root keys that this agent can sign with: those on its disk, and those that were imported into memory; each
   * once, in the order of the mesh's root keys. Errors: AppError NOT_JOINED.
   */
  seeds(): readonly Uint8Array[] {
    return this.#shares().flatMap(({ seed }) => seed ?? [])
  }

  /** Where the root keys are, for `meshctl root status`. Errors: AppError NOT_JOINED. */
  places(): { readonly held: number; readonly inMemory: number; readonly inFiles: readonly number[] } {
    const shares = this.#shares()
    return {
      held: shares.filter(({ seed }) => seed !== undefined).length,
      inMemory: shares.filter(({ seed, isOnDisk }) => seed !== undefined && !isOnDisk).length,
      inFiles: shares.filter(({ isInFile }) => isInFile).map(({ share }) => share)
    }
  }

  /**
   * Returns the file of the root seeds that are here, or of one share, sealed with a passphrase. Nothing is removed here yet:
   * see `rootExported`. Errors: AppError NOT_JOINED, NO_ROOT, BAD_ARGUMENT for a short passphrase or no such share.
   */
  async exportRoot(request: {
    readonly passphrase: string
    readonly share?: number | undefined
  }): Promise<Body<RootFileAnswer>> {
    const shares = this.#asked(request.share)
    checkNewPassphrase(request.passphrase)
    const rootSeeds = shares.flatMap(({ seed }) => (seed === undefined ? [] : [base64(seed)]))
    const content = new TextEncoder().encode(JSON.stringify({ rootSeeds }))
    const meshId = base64(this.#context().roots.meshId)
    const file = JSON.stringify(
      { kind: ROOT_FILE, meshId, sealed: await seal(content, request.passphrase, `${ROOT_FILE} ${meshId}`) },
      undefined,
      2
    )
    return { file, check: checkOf(file) }
  }

  /**
   * Notes that root seeds are in a file, after the file was written and read back: `file` and the passphrase must open to the
   * seeds that are here, or to the share. Removes all seeds from this agent, unless `keep` or a share is named: shares stay
   * until `forget`. Errors: those of `importRoot`, NO_ROOT, BAD_ARGUMENT.
   */
  async rootExported(request: {
    readonly file: string
    readonly passphrase: string
    readonly share?: number | undefined
    readonly keep: boolean
  }): Promise<Body<DoneAnswer>> {
    const { store } = this.#options
    this.#asked(request.share)
    const inFile = new Set((await this.#open(request)).map(base64))
    // Opening takes a second, in which other parts may have saved the identity.
    const shares = this.#asked(request.share)
    if (!shares.every(({ seed }) => seed !== undefined && inFile.has(base64(seed))))
      throw new AppError(
        'ROOT_FILE_OTHER',
        request.share === undefined
          ? 'the file does not hold all root keys of this agent'
          : `the file does not hold share ${request.share}`,
        'export again'
      )
    await store.changeIdentity(withFiles(shares.map(({ key }) => key)))
    if (request.share !== undefined) return { done: this.#shareDone(request.share) }
    if (request.keep) return { done: 'the root keys stay on this agent, too' }
    await this.#remove()
    return {
      done: 'this agent holds no root key any more; keep the file and its passphrase in two safe places'
    }
  }

  /**
   * Takes the root seeds of a file into memory, beside those that are here, until `forget` or the end of the process. Errors:
   * AppError NOT_JOINED; ROOT_FILE_MALFORMED when the text has not the form of such a file; ROOT_FILE_OTHER when it is of
   * another mesh; PASSPHRASE_WRONG when it does not open; StoreError.
   */
  async importRoot(request: {
    readonly file: string
    readonly passphrase: string
  }): Promise<Body<DoneAnswer>> {
    const { store, crypto } = this.#options
    const seeds = await this.#open(request)
    await store.changeIdentity(withFiles(seeds.map((seed) => crypto.publicKeyOf(seed))))
    this.#imported = [...this.#imported, ...seeds]
    const { k, keys } = this.#context().roots
    const held = this.seeds().length
    const more = held < k ? `, and ${k - held} more must be imported before they can sign` : ''
    return {
      done: `this agent holds ${held} of ${keys.length} root keys in memory, until \`meshctl root forget\` or its next start${more}`
    }
  }

  /**
   * Removes all root seeds from disk and memory. Those on disk must be in files: all of them, or with `force` as many as must
   * sign. Errors: AppError NOT_JOINED, NO_ROOT, ROOT_NOT_EXPORTED; StoreError.
   */
  async forget({ force }: { readonly force: boolean }): Promise<Body<DoneAnswer>> {
    const shares = this.#asked(undefined)
    const { k, keys } = this.#context().roots
    const missing = shares.filter(({ isOnDisk, isInFile }) => isOnDisk && !isInFile).map(({ share }) => share)
    const inFiles = this.places().inFiles.length
    if (missing.length > 0 && (!force || inFiles < k))
      throw new AppError(
        'ROOT_NOT_EXPORTED',
        `of the ${keys.length} root keys, ${missing.length === 1 ? 'share' : 'shares'} ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} in no file, and would be lost`,
        `export ${missing.length === 1 ? 'it' : 'them'}: \`meshctl root export --share ${missing[0]} <file>\`${inFiles < k ? '' : `; ${k} must sign, and ${inFiles} are in files, so \`meshctl root forget --force\` gives the others up`}`
      )
    await this.#remove()
    return { done: 'this agent holds no root key any more' }
  }

  /** Forgets the imported seeds. Called when this agent has left its mesh. */
  clear(): void {
    this.#imported = []
  }

  /** Each root key of the mesh, with its number from 1, its seed if it is here, and whether it is known to be in a file. */
  #shares(): readonly Share[] {
    const { crypto } = this.#options
    const { rootSeeds = [], rootsInFiles = [], rootExported, rootInFile } = this.#identity()
    const onDisk = rootSeeds.map(bytes)
    // Earlier versions noted all keys at once, and the Secret tells no more. Of keys that were given up (`forget --force`) or were
    // never here, nothing is known.
    const isAllInFile = rootsInFiles.length === 0 && (rootExported === true || rootInFile === true)
    const seedOf = (key: Uint8Array, seeds: readonly Uint8Array[]) =>
      seeds.find((seed) => equalBytes(crypto.publicKeyOf(seed), key))
    return this.#context().roots.keys.map((key, index) => ({
      share: index + 1,
      key,
      seed: seedOf(key, onDisk) ?? seedOf(key, this.#imported),
      isOnDisk: seedOf(key, onDisk) !== undefined,
      isInFile: isAllInFile || rootsInFiles.includes(base64(key))
    }))
  }

  /** The shares that are here, or the one that was asked for. Errors: AppError NO_ROOT, BAD_ARGUMENT. */
  #asked(share: number | undefined): readonly Share[] {
    const shares = this.#shares()
    const here = shares.filter(({ seed }) => seed !== undefined)
    if (here.length === 0) throw noRoot()
    if (share === undefined) return here
    const one = here.find((each) => each.share === share)
    if (one !== undefined) return [one]
    throw new AppError(
      'BAD_ARGUMENT',
      share > shares.length
        ? `share: there is no share ${share}, since the mesh has ${shares.length === 1 ? '1 root key' : `${shares.length} root keys`}`
        : `share: share ${share} is not on this agent`,
      `name one that is here: ${here.map((each) => each.share).join(', ')}`
    )
  }

  #shareDone(share: number): string {
    const shares = this.#shares()
    const missing = shares.filter(({ isInFile }) => !isInFile).map((each) => each.share)
    const next =
      missing.length === 0
        ? 'all shares are in files: `meshctl root forget` removes them from this agent'
        : `not yet in a file: ${missing.join(', ')}`
    return `share ${share} of ${shares.length} is in the file and stays on this agent, too; ${next}`
  }

  async #remove(): Promise<void> {
    await this.#options.store.changeIdentity((identity) => ({
      ...identity,
      rootSeeds: [],
      rootExported: true,
      rootInFile: true
    }))
    this.clear()
  }

  /** Opens a root file, and checks that its seeds are roots of this mesh. Errors: those of `importRoot`. */
  async #open({
    file,
    passphrase
  }: {
    readonly file: string
    readonly passphrase: string
  }): Promise<readonly Uint8Array[]> {
    const { crypto } = this.#options
    const { roots } = this.#context()
    const parsed = rootFileSchema.safeParse(parseJson(file))
    if (!parsed.success)
      throw new AppError(
        'ROOT_FILE_MALFORMED',
        'this is no file of `meshctl root export`, or it is damaged',
        'use another copy of it'
      )
    if (parsed.data.meshId !== base64(roots.meshId))
      throw new AppError(
        'ROOT_FILE_OTHER',
        'the file has the roots of another mesh',
        'use the file of this mesh'
      )
    const content = await unseal(parsed.data.sealed, passphrase, `${ROOT_FILE} ${parsed.data.meshId}`)
    if (content === undefined)
      throw new AppError(
        'PASSPHRASE_WRONG',
        'the passphrase does not open the file, or the file is damaged',
        'try again, or use another copy of it'
      )
    const seeds = rootSeedsSchema.safeParse(parseJson(new TextDecoder().decode(content)))
    const all = seeds.success ? seeds.data.rootSeeds.map(bytes) : []
    const isRoot = (seed: Uint8Array) => roots.keys.some((key) => equalBytes(key, crypto.publicKeyOf(seed)))
    if (all.length === 0 || !all.every(isRoot))
      throw new AppError(
        'ROOT_FILE_OTHER',
        'the keys in the file are no roots of this mesh',
        'use the file of this mesh'
      )
    return all
  }

  /** The identity of an agent in a mesh. Errors: AppError NOT_JOINED. */
  #identity(): Identity {
    const identity = this.#options.store.identity()
    if (identity === undefined) throw new Error('no identity')
    this.#options.current.required()
    return identity
  }

  /** The roots of the mesh. Errors: AppError NOT_JOINED. */
  #context(): { readonly roots: MeshRoots } {
    const { current } = this.#options
    current.required()
    const { membership } = current
    if (membership === undefined) throw new Error('a session has a membership')
    return membership
  }
}

/** The error of an agent without root keys. */
function noRoot(): AppError {
  return new AppError(
    'NO_ROOT',
    'this agent holds no root key',
    'run the command on the agent where `meshctl init` was run, or `meshctl root import` first'
  )
}

/** The first 16 digits of the SHA-256 of a file, which a person can compare. */
function checkOf(file: string): string {
  return createHash('sha256').update(file).digest('hex').slice(0, 16)
}

/** Parses JSON; undefined when it is malformed. The error is dropped, because it would quote the file. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // not JSON
  }
}

/** Returns the change after which the identity knows that these root keys are in files. */
function withFiles(keys: readonly Uint8Array[]): (identity: Identity) => Identity {
  return (identity) => {
    const known = new Set([...(identity.rootsInFiles ?? []), ...keys.map(base64)])
    return { ...identity, rootsInFiles: [...known] }
  }
}
