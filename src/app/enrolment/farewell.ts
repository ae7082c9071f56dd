// What a leave means for the mesh: the statement by which an agent or its cluster says that it has left, and the refusal of
// a leave after which the mesh could not be administered any more.
import { setTimeout as sleep } from 'node:timers/promises'

import type { Crypto } from '../../core/model/crypto.ts'
import { publicKeyOf } from '../../core/model/identity.ts'
import type { Origin } from '../../core/model/values.ts'
import { barByCluster } from '../../core/trust/author/command.ts'
import { keyId } from '../../core/trust/set/ids.ts'
import type { Store } from '../../io/store/store.ts'
import { areRootsInFile, ownSeats } from '../administration/own-seats.ts'
import type { Control } from '../control/control.ts'
import { monotonicMs } from '../observe/clock.ts'
import { AppError } from '../observe/errors.ts'
import type { CurrentSession } from '../session/current-session.ts'

/** Longest wait for the neighbours to take the statement, in ms. A neighbour that stands takes it within one tick. */
const FAREWELL_MS = 3_000
const FAREWELL_POLL_MS = 20

/** The session that is left, and the keys of this agent. */
interface Leaving {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity'>
  readonly crypto: Crypto
  /** With it, the gateways of a cluster share seats and root keys through a Secret. */
  readonly sharedKey?: unknown
}

/**
 * Refuses a leave when the root keys of this agent are in no file, since they would be lost with it, and when this agent
 * has the only seat that stands. A mesh of one cluster ends with it, so nothing is lost there, nor where another gateway
 * shares both through the Secret. Errors: AppError LAST_SEAT.
 */
export function refuseLastSeat({ current, store, crypto, sharedKey }: Leaving): void {
  const identity = store.identity()
  const { control } = current.required()
  const { members } = control
  if (identity === undefined || areRootsInFile(identity) || control.view().clusters.size < 2) return
  const gateways = control.view().clusters.get(control.view().self)?.agents ?? []
  if (sharedKey !== undefined && gateways.some(({ origin }) => origin !== control.origin)) return
  const own = new Set(ownSeats(identity, members, crypto).map(({ seat }) => seat.id))
  const standing = [...members.standing().seats].filter(([, { stands }]) => stands)
  const hasOnlySeat = own.size > 0 && standing.every(([id]) => own.has(id))
  const hasRoots = (identity.rootSeeds ?? []).length > 0
  if (!hasOnlySeat && !hasRoots) return
  if (!hasOnlySeat)
    throw new AppError(
      'LAST_SEAT',
      'this agent has the root keys of the mesh, which are in no file: after a leave no administrator could be created above the present ones',
      'export the root keys first (`meshctl root export <file>`); `meshctl leave --force` leaves nevertheless'
    )
  throw new AppError(
    'LAST_SEAT',
    `this agent has the only administrator’s seat of the mesh${hasRoots ? ' and its root keys' : ''}: after a leave no cluster could be invited or removed any more`,
    'export the root keys first (`meshctl root export`), or name another administrator (`meshctl admin add`); `meshctl leave --force` leaves nevertheless'
  )
}

/** The agents that have the key of this cluster (GatewayInvites). */
interface KeyHolders {
  readonly holders: () => readonly Origin[]
}

/** Whether no other agent of the own cluster is known, so that the cluster ends with a leave of this one. */
export function isLastOfCluster(control: Pick<Control, 'view' | 'origin'>, gateways: KeyHolders): boolean {
  return seenOfCluster(control).length === 0 && gateways.holders().length === 0
}

/** The holders of the key for which the cluster stays in the mesh although no other agent of it is in the view. */
export function unseenOfCluster(
  control: Pick<Control, 'view' | 'origin'>,
  gateways: KeyHolders
): readonly Origin[] {
  return seenOfCluster(control).length === 0 ? gateways.holders() : []
}

function seenOfCluster(control: Pick<Control, 'view' | 'origin'>): readonly Origin[] {
  const { self, clusters } = control.view()
  const agents = clusters.get(self)?.agents ?? []
  return agents.map(({ origin }) => origin).filter((origin) => origin !== control.origin)
}

/**
 * Tells the mesh that this agent has left, or its cluster with the last agent: a Bar that the cluster itself signs. So a
 * copy of the state folder is of no use later, and the name and prefixes are free. A neighbour that has taken the
 * statement turns this agent away, so the statement has arrived when the first neighbour is gone. The session must not
 * end before the others are: what is still queued would be lost.
 * Returns undefined, or the command with which an administrator says it instead, when no member could be told. Errors:
 * StoreError.
 */
export async function sayFarewell(
  { current, crypto }: Pick<Leaving, 'current' | 'crypto'>,
  isLast: boolean
): Promise<string | undefined> {
  const { membership } = current
  if (membership?.stage.kind !== 'member') return undefined
  const { roots, clusterSeed, stage } = membership
  const { control } = current.required()
  const verdict = control.members.verdictOn(control.origin)
  if (verdict.kind === 'fallen' && verdict.code === 'barred') return undefined // the members know it
  const agentKey = publicKeyOf(control.origin)
  const target = isLast || agentKey === undefined ? undefined : keyId(agentKey)
  const by = { clusterItem: stage.clusterItem, clusterSeed }
  await control.sign([barByCluster({ crypto, roots }, by, target).item])
  const untilMs = monotonicMs() + FAREWELL_MS
  const before = control.neighbours().length
  while (control.neighbours().length > 0 && monotonicMs() < untilMs) await sleep(FAREWELL_POLL_MS)
  const { self, clusters } = control.view()
  const isAlone = [...clusters.values()].every(({ agents }) =>
    agents.every(({ origin }) => origin === control.origin)
  )
  if (control.neighbours().length < before || isAlone) return undefined
  return target === undefined ? `meshctl remove ${self}` : `meshctl revoke ${control.origin}`
}
