// `meshctl backup restore`: an agent in no mesh takes the membership of a backup, and enters the mesh by the addresses in
// it. Then the exchange makes its trust set equal to its peers', so a backup may be old.
// Invariants
//   1. The agent keeps its own key, which no mesh has seen. So it becomes one more gateway of the cluster, and the agent
//      that made the backup, if it still runs, stays one: two agents never sign as one PeerId. This one remembers the
//      other (`backedUpBy`), so that its leave does not end a cluster in which that agent still runs.
//   2. Everything in the file is verified before anything is changed. After a failure the agent is as it was.
//   3. Trust set and identity are on disk before the key is in the Secret and before the first connection.
import { setTimeout as pause } from 'node:timers/promises'
import type { Crypto } from '../../core/model/crypto.ts'
import { clusterSecretData, readClusterSecret } from '../../core/trust/cluster-secret-data.ts'
import { RETRY_CODES, type HandshakeCode } from '../../core/trust/door/codes.ts'
import { openItem } from '../../core/trust/set/form.ts'
import { keyId } from '../../core/trust/set/ids.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import { withBackedUpBy } from '../../io/store/identity.ts'
import type { Identity, StoredStatement } from '../../io/store/store.ts'
import { openBackup, type BackupHeader } from '../identity/backup.ts'
import { pendingMembership, rootsOf, withoutMesh } from '../identity/identity.ts'
import { sharedOf } from '../identity/shared-identity.ts'
import { AppError } from '../observe/errors.ts'
import { Doors } from './doors.ts'
import type { Entrance, EntranceOptions } from './entrance.ts'
import { comparePrefixes } from './prefix-check.ts'
import { refusal } from './refusal.ts'
import type { SharedKey } from './shared-key.ts'

// Milliseconds to wait for a member: enough to dial, so that the answer says whether one was reached.
const WAIT_MS = 5000

/** The text of the file, and its passphrase. */
export interface RestoreRequest {
  readonly file: string
  readonly passphrase: string
}

/** What has become of a restore. */
export interface Restored {
  readonly header: BackupHeader
  /** Whether a member has accepted this agent already. */
  readonly reached: boolean
  /** Why the members do not let this cluster in any more. The membership stays: an administrator can change that. */
  readonly refused?: AppError
}

/** The parts of the process; `sharedKey` is undefined without a Kubernetes API. */
interface RestorationParts extends Pick<
  EntranceOptions,
  'node' | 'crypto' | 'store' | 'source' | 'log' | 'health'
> {
  readonly sharedKey: Pick<SharedKey, 'find' | 'found' | 'retract'> | undefined
}

/**
 * Makes the agent a member, and waits up to WAIT_MS for another one. It needs none: the backup may be all that is left of
 * the mesh. Errors: AppError BACKUP_*, PASSPHRASE_WRONG, PREFIX_MISMATCH, CLUSTER_KEY_*; KubeError, StoreError,
 * TransportError.
 */
export async function restoreBackup(
  request: RestoreRequest,
  parts: RestorationParts,
  entrance: Pick<Entrance, 'enter' | 'onHandshake'>
): Promise<Restored> {
  const { node, crypto, store, sharedKey } = parts
  const before = await node.current()
  const { header, identity, statements } = await openRestoration(request, before, crypto)
  const membership = pendingMembership(identity, crypto)
  await comparePrefixes(membership, parts)
  const hadKey = (await sharedKey?.find()) !== undefined
  try {
    await store.saveTrust(statements)
    await store.saveIdentity(identity)
    await sharedKey?.found(sharedOf(identity, crypto))
    const answer = firstAnswer(membership.bootstrap, entrance)
    await entrance.enter(
      membership,
      statements.map(({ item }) => item)
    )
    return { header, ...(await answer) }
  } catch (error) {
    await store.forget()
    await store.saveIdentity(before)
    if (!hadKey) await sharedKey?.retract(identity, { onlyPending: false })
    throw error
  } finally {
    entrance.onHandshake = () => undefined
  }
}

/**
 * Resolves when a member has accepted this agent, when the members have refused it for good, or after WAIT_MS; then with the
 * refusal for good of one that has answered, if others have not.
 */
function firstAnswer(
  bootstrap: readonly string[],
  entrance: Pick<Entrance, 'onHandshake'>
): Promise<Omit<Restored, 'header'>> {
  const doors = new Doors(bootstrap)
  const { promise, resolve } = Promise.withResolvers<Omit<Restored, 'header'>>()
  let refused: AppError | undefined
  entrance.onHandshake = (outcome) => {
    if (outcome.kind === 'accepted') resolve({ reached: true })
    else if (doors.isOver(outcome)) resolve({ reached: false, refused: refusal(outcome, FIXES) })
    else if (outcome.kind === 'refused' && !RETRY_CODES.has(outcome.code as HandshakeCode))
      refused = refusal(outcome, FIXES)
  }
  const waitMs = bootstrap.length === 0 ? 0 : WAIT_MS
  const waited = pause(waitMs).then(() => ({ reached: false, ...(refused === undefined ? {} : { refused }) }))
  return Promise.race([promise, waited])
}

/** What to do where the remedy of the door is for a newcomer with a token, and not for an agent with a backup. */
const FIXES: Readonly<Partial<Record<HandshakeCode, string>>> = {
  replaced:
    'the backup is older than the present key of its cluster: run `meshctl leave` here, then restore a backup that was made since, or join with a token of `meshctl invite --gateway` from a gateway of that cluster; if its key is lost, an administrator makes one (`meshctl invite <cluster> --replace`)',
  mesh: 'at the addresses in the backup is another mesh now: if that has taken the place of this one, run `meshctl leave` here, then join with a token of the other'
}

/** What an agent enters the mesh with. */
interface Restoration {
  readonly header: BackupHeader
  readonly identity: Identity
  readonly statements: readonly StoredStatement[]
}

/**
 * Opens a backup for an agent with the keys of `before`, and verifies every item and seed in it. Nothing is changed.
 * Errors: AppError BACKUP_*, PASSPHRASE_WRONG.
 */
async function openRestoration(
  request: RestoreRequest,
  before: Identity,
  crypto: Crypto
): Promise<Restoration> {
  const { header, identity: saved, trust } = await openBackup(request.file, request.passphrase)
  const identity: Identity = { rootExported: false, ...withoutMesh(before), ...saved }
  const roots = verified(identity, crypto)
  const { clusterSeed } = pendingMembership(identity, crypto)
  const former = { peerId: header.peerId, clusterKey: keyId(crypto.publicKeyOf(clusterSeed)) }
  return {
    header,
    identity: withBackedUpBy(identity, former),
    statements: trust.flatMap((item) => statementOf(item, { crypto, roots }))
  }
}

/** Checks all items and seeds, as for the Secret that gateways share. Errors: AppError BACKUP_DAMAGED. */
function verified(identity: Identity, crypto: Crypto): MeshRoots {
  try {
    const roots = rootsOf(identity, crypto)
    const reading = readClusterSecret(clusterSecretData(sharedOf(identity, crypto)), crypto)
    if (roots !== undefined && reading.kind === 'secret' && reading.secret.membership.kind === 'member')
      return roots
  } catch {
    // An item does not verify. The error is dropped, because the fix is the same.
  }
  throw new AppError(
    'BACKUP_DAMAGED',
    'the backup is damaged: the keys and statements in it do not belong together',
    'use another copy of the file'
  )
}

/** A statement of the backup for the store; none for one that this version does not take. Peers may have it. */
function statementOf(
  item: Uint8Array,
  context: { readonly crypto: Crypto; readonly roots: MeshRoots }
): readonly StoredStatement[] {
  const opened = openItem(context, item)
  const last = opened.kind === 'item' ? opened.statements.at(-1) : undefined
  return last === undefined ? [] : [{ id: last.statement.id, item }]
}
