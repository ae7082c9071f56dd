// The names of the mesh for the present view, for `meshctl dns` and for the zones that a cluster's DNS forwards. They
// are made when they are first asked for, and again only when the view, the withdrawn clusters or the address of the
// responder has changed. The responder makes its own names, in its own process.
import type { ClusterName, Ip } from '../../core/model/values.ts'
import { createNames, type Names } from '../../core/dns/names.ts'
import type { MeshView } from '../../core/view/view.ts'

/** The facts from which the names are made. They are compared by identity. */
interface NamesInput {
  readonly view: MeshView
  readonly withdrawn: ReadonlySet<ClusterName>
  readonly balanced: ReadonlyMap<string, Ip>
  /**
   * The address at which this agent's responder answers, for the records of the zones' name server; undefined: none.
   */
  readonly nodeAddress: Ip | undefined
}

/** Keeps the names that were made last. */
export class NamesOfView {
  #made: { readonly input: NamesInput; readonly names: Names } | undefined
  // The serial of the zones' SOA records, which grows with each change.
  #serial = 1

  /** Returns the names; the same object for the same input. */
  names(input: NamesInput): Names {
    const made = this.#made
    if (made !== undefined && isSame(made.input, input)) return made.names
    const { view, withdrawn, balanced, nodeAddress } = input
    const names = createNames({
      view,
      withdrawn: (cluster) => withdrawn.has(cluster),
      balanced,
      serverAddresses: nodeAddress === undefined ? [] : [nodeAddress],
      serial: this.#serial++,
      previous: made?.names
    })
    this.#made = { input, names }
    return names
  }
}

function isSame(a: NamesInput, b: NamesInput): boolean {
  return (
    a.view === b.view &&
    a.withdrawn === b.withdrawn &&
    a.balanced === b.balanced &&
    a.nodeAddress === b.nodeAddress
  )
}
