// The statements of one item while it is checked: each must find its parents among those before it, and lie within
// their rights. Nothing here looks at signatures.
import { refusal } from './codec.ts'
import type { FormRules } from './form-rules.ts'
import type { KeyId, StatementId } from './ids.ts'
import type { Fault } from './rights.ts'
import type { Bar, ClusterCert, Invite, Refusal, Seat, Statement, StatementKind } from './statement.ts'

/** The statements of one item so far, as the parents of the next one. */
export class ItemChain {
  /** Every statement taken so far. */
  readonly #byId = new Map<StatementId, Statement>()
  /** What made a key a cluster: a founding certificate or an admission. */
  readonly #clusters = new Map<KeyId, Statement>()
  /** Certificates of invited clusters, by invite and cluster key. */
  readonly #certs = new Map<string, ClusterCert>()
  /** Statements that no later one stands on; at the end, the last one alone. */
  readonly #unused = new Set<StatementId>()

  /** The seat with this id; undefined when the item has not brought it. */
  seat(id: StatementId | undefined): Seat | undefined {
    const found = id === undefined ? undefined : this.#byId.get(id)
    return found?.kind === 'seat' ? found : undefined
  }

  /** The invite with this id; undefined when the item has not brought it. */
  invite(id: StatementId | undefined): Invite | undefined {
    const found = id === undefined ? undefined : this.#byId.get(id)
    return found?.kind === 'invite' ? found : undefined
  }

  /** Whether a statement but the last one is no parent of a later one. */
  unused(): boolean {
    return this.#unused.size !== 1
  }

  /** Checks a statement against its parents (F3, F4) and takes it; the refusal where one is missing or is exceeded. */
  take(statement: Statement, rules: FormRules): Refusal | undefined {
    const parents = this.#parentsOf(statement)
    const { kind } = statement
    // Otherwise a relay could repeat a statement, and one credential would have many encodings that all verify.
    if (this.#byId.has(statement.id)) return refusal('parents', kind, '', 'it stands in the item twice')
    const missing = parents.find(([, parent]) => parent === undefined)
    if (missing !== undefined)
      return refusal('parents', kind, missing[0], `the item does not hold what ${missing[0]} names before it`)
    for (const [, parent] of parents) if (parent !== undefined) this.#unused.delete(parent.id)
    const broken = this.#rightsFault(statement, rules)
    if (broken !== undefined) return broken
    this.#byId.set(statement.id, statement)
    this.#unused.add(statement.id)
    if (kind === 'clusterCert') {
      if (statement.invite === undefined) this.#clusters.set(statement.clusterKey, statement)
      else this.#certs.set(`${statement.invite} ${statement.clusterKey}`, statement)
    }
    if (kind === 'admission') this.#clusters.set(statement.clusterKey, statement)
    return undefined
  }

  /** The statements that this one stands on, each with the field that names it. */
  #parentsOf(statement: Statement): readonly (readonly [string, Statement | undefined])[] {
    switch (statement.kind) {
      case 'seat':
      case 'void':
        return statement.under === undefined ? [] : [['under', this.seat(statement.under)]]
      case 'invite':
      case 'grant':
      case 'decide':
        return [['under', this.seat(statement.under)]]
      case 'bar':
        return 'seat' in statement.by
          ? [['under', this.seat(statement.by.seat)]]
          : [['by', this.#clusters.get(statement.by.cluster)]]
      case 'clusterCert':
        return statement.invite === undefined ? [] : [['invite', this.invite(statement.invite)]]
      case 'admission':
        return [
          ['invite', this.invite(statement.invite)],
          ['clusterKey', this.#certs.get(`${statement.invite} ${statement.clusterKey}`)]
        ]
      case 'agentCert':
        return [['clusterKey', this.#clusters.get(statement.clusterKey)]]
      default:
        return statement satisfies never
    }
  }

  /** F3 and F4: what a statement gives lies within the rights of the one that it stands on. */
  #rightsFault(statement: Statement, rules: FormRules): Refusal | undefined {
    const { kind } = statement
    const parent = this.seat('under' in statement ? statement.under : undefined)
    if (kind === 'seat' && parent) return refused('F3', kind, rules.F3(statement, parent))
    if (kind === 'invite' && parent) return refused('F4', kind, rules.F4invite(statement, parent))
    if (kind === 'grant' && parent) return refused('F4', kind, rules.F4grant(statement, parent))
    if (kind === 'decide' && parent) return refused('F4', kind, rules.F4decide(statement, parent))
    const invite = this.invite(kind === 'clusterCert' ? statement.invite : undefined)
    if (kind === 'clusterCert' && invite) return refused('F4', kind, rules.F4cert(statement, invite))
    if (kind === 'bar' && 'cluster' in statement.by) return selfBarFault(statement, statement.by.cluster)
    return undefined
  }
}

/** A cluster may end itself and its own agents; that an agent is its own, its certificate shows later (S8). */
function selfBarFault({ target }: Bar, by: KeyId): Refusal | undefined {
  if ('agent' in target || target.cluster === by) return undefined
  return refusal('F4', 'bar', 'target', 'a cluster can end only itself and its agents')
}

/** The refusal for a fault that a rule found. */
function refused(rule: 'F3' | 'F4', kind: StatementKind, fault: Fault | undefined): Refusal | undefined {
  return fault && refusal(rule, kind, fault.field, fault.reason, fault.fix)
}
