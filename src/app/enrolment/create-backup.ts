// `meshctl backup create`: puts what this agent cannot get from its peers into a file under a passphrase, with the trust
// set, so that a mesh whose last member has lost its disk comes back, too. identity/backup.ts has the format.
import { createHash } from 'node:crypto'
import type { BackupAnswer } from '../../api/membership-answers.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { meshIdText } from '../../core/model/identity.ts'
import { isBootstrapAddress, SECRET_BOOTSTRAP_MAX } from '../../core/trust/cluster-secret-data.ts'
import { keyId } from '../../core/trust/set/ids.ts'
import { savedPart, type SavedIdentity } from '../../io/store/identity.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import type { Body } from '../admin/answer-body.ts'
import { sealBackup } from '../identity/backup.ts'
import { inTurn } from '../identity/bootstrap.ts'
import { checkNewPassphrase } from '../identity/passphrase.ts'
import type { Log } from '../observe/log.ts'
import { notJoined, type CurrentSession } from '../session/current-session.ts'
import type { Session } from '../session/session.ts'
import { addressesByCluster } from './invitations.ts'

/** The session with the trust set, and the identity. */
interface BackupParts {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity'>
  readonly crypto: Crypto
  readonly log: Log
}

/**
 * Returns the file. The agent keeps no trace of it. Errors: AppError NOT_JOINED; BAD_ARGUMENT for a short passphrase;
 * BACKUP_TOO_LARGE.
 */
export async function createBackup(
  { current, store, crypto, log }: BackupParts,
  { passphrase }: { readonly passphrase: string }
): Promise<Body<BackupAnswer>> {
  const session = current.required()
  const identity = store.identity()
  const { membership } = current
  if (identity === undefined || membership?.stage.kind !== 'member') throw notJoined()
  checkNewPassphrase(passphrase)
  const { set } = session.control.members
  const trust = [...set.ids()].flatMap((id) => set.itemOf(id) ?? [])
  const { cluster } = membership
  const header = {
    cluster,
    meshId: meshIdText(membership.roots.meshId),
    peerId: session.control.origin,
    made: new Date().toISOString()
  }
  const file = await sealBackup({ header, identity: saved(identity, session, crypto), trust }, passphrase)
  log.info({ statements: trust.length }, 'made a backup of this agent’s membership')
  return {
    ...header,
    file,
    check: createHash('sha256').update(file).digest('hex').slice(0, 16),
    statements: trust.length,
    seats: (identity.seats ?? []).length + (identity.adminSeed === undefined ? 0 : 1),
    invites: (identity.invites ?? []).length,
    rootsHere: (identity.rootSeeds ?? []).length,
    ...warningsOf(current)
  }
}

/** A backup of an agent that is no member any more replaces a good one only by mistake. */
function warningsOf({ endedBecause }: CurrentSession): Pick<BackupAnswer, 'warnings'> {
  if (endedBecause === undefined) return {}
  return {
    warnings: [
      `this agent is no member of the mesh any more (${endedBecause}), and members refuse what is restored from this backup while that is so: keep the backups that were made before`
    ]
  }
}

/**
 * The identity for the file: with the addresses of members that are known now, since those of the token may be years old,
 * and with the highest generation of its cluster, so that the certificate of a restored agent counts at once.
 */
function saved(identity: Identity, session: Session, crypto: Crypto): SavedIdentity {
  const { control, membership } = session
  const known = inTurn(addressesByCluster(session))
  const all = [...new Set([...known, ...(identity.bootstrap ?? [])])]
  // Addresses come from other members, too.
  const bootstrap = all.filter(isBootstrapAddress).slice(0, SECRET_BOOTSTRAP_MAX)
  const clusterKey = keyId(crypto.publicKeyOf(membership.clusterSeed))
  const seen = control.members.generations().get(clusterKey) ?? 0
  return {
    ...savedPart(identity),
    bootstrap,
    generation: Math.max(seen, identity.generation ?? 1)
  }
}
