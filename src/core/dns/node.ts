// What exists at a name of a zone, before the type of the question selects records (zone.ts).
import { serviceDomain } from '../model/zones.ts'
import type { ClusterView, ServiceView } from '../view/view.ts'
import type { DomainName } from './record.ts'
import { serviceNames, type Target } from './service-names.ts'

/** What exists at a name, independent of the type of the question. */
export type Node =
  | { readonly kind: 'absent' }
  /** The name has no records, but names below it do. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'alias'; readonly target: DomainName }
  | { readonly kind: 'targets'; readonly held: readonly HolderTargets[] }

/** The addresses and ports that one cluster's service has at a name. */
export interface HolderTargets {
  /** The name of the service, which the targets of SRV records are, or are below. */
  readonly domain: DomainName
  readonly targets: readonly Target[]
}

/** A cluster, or all of them in the place of one. */
export type Services = Pick<ClusterView, 'name' | 'services'>

/**
 * Returns what exists at a service's name. A CNAME cannot have other records beside it, so addresses win over
 * aliases. Of several aliases, that of the first cluster in `sources` is taken.
 */
export function serviceNode(sources: readonly Services[], key: string): Node {
  let alias: DomainName | undefined
  const node = targetsNode(sources, key, (view) => {
    const names = serviceNames(view)
    if (names.kind === 'alias') alias ??= names.target
    return names.kind === 'targets' ? names.targets : undefined
  })
  return node.kind === 'absent' && alias !== undefined ? { kind: 'alias', target: alias } : node
}

/** The targets of all sources. `targetsOf` returns undefined when a cluster's service has no such name. */
export function targetsNode(
  sources: readonly Services[],
  key: string,
  targetsOf: (view: ServiceView) => readonly Target[] | undefined
): Node {
  const held: HolderTargets[] = []
  for (const { name, services } of sources) {
    const service = services.get(key)
    const targets = service && targetsOf(service)
    if (service !== undefined && targets !== undefined)
      held.push({ domain: serviceDomain(name, service.service), targets })
  }
  return held.length === 0 ? { kind: 'absent' } : { kind: 'targets', held }
}
