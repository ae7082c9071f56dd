// GET /v1/trust for `meshctl trust`, `admin list`, `invite list` and `root status`: the trust set, and what follows from it
// at this agent. It has no secrets.
import type {
  InviteRow,
  SeatRow,
  StandingRow,
  StatementRow,
  TrustedClusterRow
} from '../../../api/trust-answers.ts'
import type { Crypto } from '../../../core/model/crypto.ts'
import { meshIdText } from '../../../core/model/identity.ts'
import { explain, seatsOf, stateOfInvite } from '../../../core/trust/members/survey.ts'
import type { Members } from '../../../core/trust/members/members.ts'
import type { ClusterStanding } from '../../../core/trust/set/clusters.ts'
import type { KeyId, StatementId } from '../../../core/trust/set/ids.ts'
import type { Verdict } from '../../../core/trust/set/verdict.ts'
import type { Identity, Store } from '../../../io/store/store.ts'
import type { GatewayInvites } from '../../enrolment/gateway-invites.ts'
import { areRootsInFile, ownSeats } from '../../administration/own-seats.ts'
import type { RootKeys } from '../../administration/root-keys.ts'
import { bytes } from '../../identity/encoding.ts'
import { requireSession } from '../../session/current-session.ts'
import type { AgentState } from '../agent-state.ts'
import type { AdminHandlers } from '../server.ts'

/** Returns the handler. Errors: AppError NOT_JOINED. */
export function trustRoute({
  state,
  store,
  gateways,
  rootKeys,
  crypto
}: {
  readonly state: Pick<AgentState, 'session' | 'membership'>
  readonly store: Pick<Store, 'identity'>
  readonly gateways: Pick<GatewayInvites, 'rows'>
  readonly rootKeys: Pick<RootKeys, 'places'>
  readonly crypto: Crypto
}): AdminHandlers['trust'] {
  return async () => {
    const { members } = requireSession(state.session).control
    const identity = store.identity()
    const roots = state.membership?.roots
    const { set } = members
    return {
      meshId: meshIdText(members.meshId),
      roots: {
        k: roots?.k ?? 0,
        number: roots?.keys.length ?? 0,
        ...rootKeys.places(),
        exported: identity !== undefined && areRootsInFile(identity)
      },
      seats: seatRows(members, identity, crypto),
      clusters: Array.from(members.standing().clusters.values(), (cluster) =>
        clusterRow(members, cluster)
      ).sort((a, b) => a.name.localeCompare(b.name, 'en') || Number(b.stands) - Number(a.stands)),
      contested: members.ownership().contested.map(({ what, value, winner, loser }) => ({
        what,
        value,
        winner: nameOf(members, winner),
        loser: nameOf(members, loser)
      })),
      invites: [
        ...(identity?.invites ?? []).flatMap((invite) => inviteRow(members, invite)),
        ...gateways.rows()
      ],
      statements: explain(set, [...set.ids()]).map((one): StatementRow => {
        const verdict = verdictOf(members, one.id)
        return { ...one, stands: verdict?.stands ?? true, reason: verdict?.reason ?? '' }
      })
    }
  }
}

function seatRows(members: Members, identity: Identity | undefined, crypto: Crypto): readonly SeatRow[] {
  const own = new Set(identity && ownSeats(identity, members, crypto).map(({ seat }) => seat.id))
  return seatsOf(members.set, members.standing()).map(({ seat, verdict, clusters }) => {
    const under = seat.under === undefined ? undefined : members.set.seats.get(seat.under)?.statement.label
    return {
      id: seat.id,
      label: seat.label,
      own: own.has(seat.id),
      ...(under === undefined ? {} : { under }),
      names: seat.names,
      prefixes: seat.prefixes.map(({ cidr }) => cidr),
      clusters,
      clustersMax: seat.clustersMax,
      inviteDaysMax: seat.inviteDaysMax,
      maySeat: seat.maySeat,
      ...standingRow(members, verdict)
    }
  })
}

function clusterRow(members: Members, cluster: ClusterStanding): TrustedClusterRow {
  const { name, key, verdict, entry } = cluster
  const prefixes = members.ownership().prefixes.get(key)
  const seat = entry.kind === 'admission' ? members.set.seats.get(entry.invite.statement.under) : undefined
  return {
    name,
    key,
    hasName: members.ownership().names.get(name) === key,
    podCidrs: prefixes?.pods ?? [],
    serviceCidrs: prefixes?.services ?? [],
    ...(cluster.namespaces.length === 0 ? {} : { namespaces: cluster.namespaces }),
    ...(entry.kind === 'admission'
      ? {
          invitedBy: seat?.statement.label ?? entry.invite.statement.under,
          admittedBy: nameOf(members, entry.statement.sponsorKey)
        }
      : {}),
    ...standingRow(members, verdict)
  }
}

function standingRow(members: Members, { stands, rule, reason, causes }: Verdict): StandingRow {
  return {
    stands,
    rule,
    reason,
    because: explain(members.set, causes).map(({ signer, text }) => `${signer} ${text}`)
  }
}

function inviteRow(members: Members, invite: NonNullable<Identity['invites']>[number]): readonly InviteRow[] {
  const opened = members.set.open(bytes(invite.item))
  const statement = opened.kind === 'item' ? opened.statements.at(-1)?.statement : undefined
  if (statement?.kind !== 'invite') return []
  const { kind } = stateOfInvite(members.set, members.standing(), statement)
  const state = kind === 'open' && invite.expiresMs < Date.now() ? 'expired' : kind
  return [
    {
      cluster: invite.cluster,
      state,
      ...(statement.replaces === undefined ? {} : { replaces: nameOf(members, statement.replaces) }),
      expires: new Date(invite.expiresMs).toISOString(),
      cidrs: invite.prefixes
    }
  ]
}

function verdictOf(members: Members, id: StatementId): Verdict | undefined {
  const { seats, commands, admissions } = members.standing()
  return seats.get(id) ?? commands.get(id) ?? admissions.get(id)
}

/** The name of a cluster key, with the beginning of the key where it is not the one that has the name. */
function nameOf(members: Members, key: KeyId): string {
  const cluster = members.standing().clusters.get(key)
  if (cluster === undefined) return key.slice(0, 16)
  return members.ownership().names.get(cluster.name) === key
    ? cluster.name
    : `${cluster.name} (${key.slice(0, 16)})`
}
