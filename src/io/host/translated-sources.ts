// The source addresses that flows into the tunnel have: those of pods are translated where this cluster has virtual prefixes
// in the mesh (filter/translation.ts). The filter says which ones, and flow-ends.ts asks whether a flow has the right one.
import { createTranslation, NO_TRANSLATION, type Translation } from '../../core/model/translation.ts'
import { cidrContains } from '../../core/model/cidr.ts'
import type { Filter } from '../../core/host/host-state.ts'
import type { Cidr, Ip } from '../../core/model/values.ts'

/** One for each host. */
export class TranslatedSources {
  /** undefined until the filter has been read or set. */
  #translation: Translation | undefined

  /** Takes the prefixes of the present filter. */
  use({ translatedPods = [] }: Pick<Filter, 'translatedPods'> = {}): void {
    const prefixes = translatedPods.map((text) => {
      const [real, virtual] = text.split(' ') as [Cidr, Cidr]
      return { kind: 'pod' as const, real, virtual }
    })
    this.#translation = prefixes.length === 0 ? NO_TRANSLATION : createTranslation(prefixes)
  }

  /**
   * Returns the address to which replies must go: that of the client, or the virtual one if the backend is behind the tunnel.
   * undefined: not known yet.
   */
  replyTo({ source, ip }: { readonly source: Ip; readonly ip: Ip }): Ip | undefined {
    const translation = this.#translation
    const isHere = translation?.pods.some(({ real }) => cidrContains(real, ip))
    return isHere === true ? source : translation?.toVirtual.ip(source)
  }
}
