// Who may take a bar back (`meshctl restore`), and the Voids that do it: a seat of this agent that has the right, else the root
// keys, which may take back every statement (S2). Without the roots, the bar of an agent by an administrator that was removed
// since would stay for ever, because the removal keeps what that administrator had signed.
import type { AuthorContext } from '../../core/trust/author/author.ts'
import { voidByRoots, voidBySeat } from '../../core/trust/author/command.ts'
import type { KeyId, StatementId } from '../../core/trust/set/ids.ts'
import { coversName } from '../../core/trust/set/rights.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Standing } from '../../core/trust/set/standing.ts'
import type { Bar, Seat } from '../../core/trust/set/statement.ts'
import { AppError } from '../observe/errors.ts'
import { noSeat, type OwnSeat } from './own-seats.ts'

/** The keys of this agent, and the seats of the mesh. */
interface Signers {
  readonly context: AuthorContext & { readonly roots: MeshRoots }
  /** The seats of this agent that stand. */
  readonly seats: readonly OwnSeat[]
  /** The seeds of root keys that are here. */
  readonly rootSeeds: readonly Uint8Array[]
  /** All seats of the set, those that have fallen included. */
  readonly seatOf: (id: StatementId) => Seat | undefined
}

/**
 * Signs a Void of each bar. `name`: the cluster name that a seat must cover; undefined for bars of an agent by a seat, which
 * that seat, the one above it, or the roots take back. Errors: AppError NO_SEAT, SEAT_EXCEEDED.
 */
export function takenBack(
  bars: readonly Bar[],
  name: string | undefined,
  { context, seats, rootSeeds, seatOf }: Signers
): readonly Uint8Array[] {
  const hasRoots = rootSeeds.length >= context.roots.k
  return bars.map((bar) => {
    const signer = 'seat' in bar.by ? seatOf(bar.by.seat) : undefined
    const seat = seats.find(({ seat: own }) =>
      name === undefined ? own.id === signer?.id || own.id === signer?.under : coversName(own, name)
    )
    const taken = { target: bar.id, keep: [] }
    if (seat !== undefined) return voidBySeat(context, seat, taken).item
    if (hasRoots) return voidByRoots(context, rootSeeds, taken).item
    throw seats.length === 0 ? noSeat() : exceeded(name, signer)
  })
}

/**
 * The sentences about a cluster whose bars were taken back and that is not as before: it does not stand, or its name was given
 * to another key meanwhile.
 */
export function notesAfter({ clusters }: Pick<Standing, 'clusters'>, key: KeyId): readonly string[] {
  const cluster = clusters.get(key)
  if (cluster === undefined) return []
  const { name, verdict } = cluster
  if (!verdict.stands)
    return [`No bar ends it any more, and it is no member all the same: ${verdict.reason}.`]
  const rivals = [...clusters.values()].filter(
    (other) => other.name === name && other.key !== key && other.verdict.stands
  )
  if (rivals.length === 0) return []
  return [
    `The name ${name} was given to another key meanwhile (${rivals.map((other) => shown(other.key)).join(', ')}), which keeps it. If this one is to have it, run \`meshctl decide ${name} ${shown(key)}\`.`
  ]
}

/** The beginning of a key, as all commands show it and take it. */
function shown(key: KeyId): string {
  return key.slice(0, 16)
}

function exceeded(name: string | undefined, signer: Seat | undefined): AppError {
  const where =
    'run the command on an agent of an administrator with that right (`meshctl admin list` shows them)'
  const roots = 'import the root keys here (`meshctl root import <file>`) and repeat the command'
  return name === undefined
    ? new AppError(
        'SEAT_EXCEEDED',
        `the administrator ${signer?.label ?? ''} signed the bar of this agent, and no seat here is that one or above it`,
        `run the command on an agent of that administrator (\`meshctl admin list\`), or ${roots}`
      )
    : new AppError('SEAT_EXCEEDED', `no seat of this agent covers the name ${name}`, `${where}, or ${roots}`)
}
