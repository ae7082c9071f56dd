// The names of the mesh as the present view has them. They are made when they are first asked for, and again once the view, the withdrawn
// clusters or the address of the responder has changed.
import type { ClusterName, Ip } from '../../core/model/values.ts'
import { createNames, type Names } from '../../core/dns/names.ts'
import type { MeshView } from '../../core/view/view.ts'

export interface NamesInput {
  readonly view: MeshView
  readonly withdrawn: ReadonlySet<ClusterName>
  /** Where this agent's responder answers. */
  readonly nodeAddress: Ip | undefined
}

export class NamesOfView {
  #made: { readonly input: NamesInput; readonly names: Names } | undefined
  #serial = 1

  /** The same object for the same input. */
  names(input: NamesInput): Names {
    const made = this.#made
    if (made !== undefined && isSame(made.input, input)) return made.names
    const { view, withdrawn, nodeAddress } = input
    const names = createNames({
      view,
      withdrawn: (cluster) => withdrawn.has(cluster),
      serverAddresses: nodeAddress === undefined ? [] : [nodeAddress],
      serial: this.#serial++,
      previous: made?.names
    })
    this.#made = { input, names }
    return names
  }
}

function isSame(a: NamesInput, b: NamesInput): boolean {
  return a.view === b.view && a.withdrawn === b.withdrawn && a.nodeAddress === b.nodeAddress
}
