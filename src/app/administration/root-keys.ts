// The root keys of a mesh, in files under a passphrase.
// Invariant: root seeds leave an agent only inside a file that is sealed with a passphrase. They are removed here only when
// the operator has shown that the file can be read (`rootExported`).
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
  readonly store: Pick<Store, 'identity' | 'saveIdentity'>
  readonly crypto: Crypto
}

/** See the head of this file. */
export class RootKeys {
  readonly #options: RootKeysOptions

  constructor(options: RootKeysOptions) {
    this.#options = options
  }

  /**
   * Returns the file of the root seeds, sealed with a passphrase. Nothing is removed here yet: see `rootExported`. Errors:
   * AppError NOT_JOINED, NO_ROOT, BAD_ARGUMENT for a short passphrase.
   */
  async exportRoot(request: { readonly passphrase: string }): Promise<Body<RootFileAnswer>> {
    const { rootSeeds = [] } = this.#identity()
    if (rootSeeds.length === 0) throw noRoot()
    checkNewPassphrase(request.passphrase)
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
   * Notes that the root seeds are in a file, after the file was written and read back: `file` and the passphrase must open
   * to the seeds that are here. Removes the seeds from this agent, unless `keep`. Errors: those of `importRoot`, NO_ROOT.
   */
  async rootExported(request: {
    readonly file: string
    readonly passphrase: string
    readonly keep: boolean
  }): Promise<Body<DoneAnswer>> {
    const { store } = this.#options
    if ((this.#identity().rootSeeds ?? []).length === 0) throw noRoot()
    const inFile = new Set((await this.#open(request)).map(base64))
    // Opening takes a second, in which other parts may have saved the identity.
    const identity = this.#identity()
    const { rootSeeds = [] } = identity
    if (!rootSeeds.every((seed) => inFile.has(seed)))
      throw new AppError(
        'ROOT_FILE_OTHER',
        'the file does not hold all root keys of this agent',
        'export again'
      )
    if (request.keep) {
      await store.saveIdentity({ ...identity, rootInFile: true })
      return { done: 'the root keys stay on this agent, too' }
    }
    await store.saveIdentity({ ...identity, rootSeeds: [], rootExported: true, rootInFile: true })
    return {
      done: 'this agent holds no root key any more; keep the file and its passphrase in two safe places'
    }
  }

  /**
   * Takes the root seeds of a file into the identity, in place of those that are there. Errors: AppError NOT_JOINED;
   * ROOT_FILE_MALFORMED when the text has not the form of such a file; ROOT_FILE_OTHER when it is of another mesh;
   * PASSPHRASE_WRONG when it does not open; StoreError.
   */
  async importRoot(request: {
    readonly file: string
    readonly passphrase: string
  }): Promise<Body<DoneAnswer>> {
    const { store } = this.#options
    const seeds = await this.#open(request)
    const rootSeeds = seeds.map(base64)
    await store.saveIdentity({ ...this.#identity(), rootSeeds, rootExported: false, rootInFile: true })
    const keys = seeds.length === 1 ? '1 root key' : `${seeds.length} root keys`
    return { done: `this agent holds ${keys} now; export again when you are done` }
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
