// What answers say of a cluster whose addresses are translated: which real prefix stands behind a prefix of the mesh, and by
// which addresses other clusters reach what the own view shows with its real ones.
import type { ServiceRow } from '../../api/answers.ts'
import type { Translation } from '../../core/model/translation.ts'
import type { ClusterView, ServiceView } from '../../core/view/view.ts'

/** The field `translated`; none while no address is translated. */
interface TranslatedField {
  /** Of each prefix of the mesh that stands for another one: the prefix that the cluster really uses. */
  readonly translated?: Readonly<Record<string, string>>
}

/** Returns the field, or none while no address is translated. */
export function translatedField(translation: Translation | undefined): TranslatedField {
  const pairs = [...(translation?.pods ?? []), ...(translation?.services ?? [])]
  if (pairs.length === 0) return {}
  return { translated: Object.fromEntries(pairs.map(({ real, virtual }) => [virtual, real])) }
}

/** Returns the prefixes of a cluster of the view as the mesh knows them. `isOwn`: the view has its real ones. */
export function prefixFields(
  { podPrefixes, servicePrefixes }: Pick<ClusterView, 'podPrefixes' | 'servicePrefixes'>,
  { translation, isOwn }: { readonly translation: Translation; readonly isOwn: boolean }
): TranslatedField & { readonly cidrs: readonly string[] } {
  const prefixes = [...podPrefixes, ...servicePrefixes]
  if (!isOwn) return { cidrs: prefixes }
  return { cidrs: prefixes.map((cidr) => translation.toVirtual.cidr(cidr)), ...translatedField(translation) }
}

/** Returns the addresses by which other clusters reach a service of the own cluster; none where these are its real ones. */
export function meshIpsField(
  { service }: Pick<ServiceView, 'service'>,
  { isActive, toVirtual }: Translation
): Pick<ServiceRow, 'meshIps'> {
  const meshIps = isActive ? service.clusterIps.map((ip) => toVirtual.ip(ip)) : []
  return meshIps.some((ip, at) => ip !== service.clusterIps[at]) ? { meshIps } : {}
}
