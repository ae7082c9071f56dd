// The real prefixes of a cluster whose addresses are translated (core/model/translation.ts): what a person named, or what the
// Kubernetes API reports, paired with the prefixes that the cluster has in the mesh.
import type { Cidr } from '../../core/model/values.ts'
import type { Prefixes } from '../../core/model/prefixes.ts'
import { pairPrefixes, translationFault, type RealPrefix } from '../../core/model/translation.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Pairs each real prefix with one of the mesh. A kind of which no real prefix is named is not translated. Errors: AppError
 * TRANSLATION_MISMATCH when a prefix has no partner of its family and length, BAD_ARGUMENT when prefixes overlap.
 */
export function translatedPrefixes(real: Prefixes, inMesh: Prefixes): readonly RealPrefix[] {
  const named: readonly RealPrefix[] = [
    ...real.podPrefixes.map((cidr) => ({ kind: 'pod' as const, real: cidr })),
    ...real.servicePrefixes.map((cidr) => ({ kind: 'service' as const, real: cidr }))
  ]
  const virtual = {
    podPrefixes: real.podPrefixes.length === 0 ? [] : inMesh.podPrefixes,
    servicePrefixes: real.servicePrefixes.length === 0 ? [] : inMesh.servicePrefixes
  }
  const { prefixes, unpaired } = pairPrefixes(named, virtual)
  const alone = prefixes.filter((prefix) => prefix.virtual === undefined).map((prefix) => prefix.real)
  if (alone.length + unpaired.length > 0) throw mismatch({ alone, unpaired, real })
  const fault = translationFault(prefixes)
  if (fault !== undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      fault,
      'name the real prefixes of this cluster, and others for the mesh'
    )
  return prefixes
}

function mismatch({
  alone,
  unpaired,
  real
}: {
  readonly alone: readonly Cidr[]
  readonly unpaired: readonly Cidr[]
  readonly real: Prefixes
}): AppError {
  const causes = [
    ...(alone.length === 0 ? [] : [`the real prefixes ${alone.join(', ')} have none in the mesh`]),
    ...(unpaired.length === 0
      ? []
      : [`the prefixes ${unpaired.join(', ')} of the mesh stand for no real one`])
  ]
  const flags = [
    ...real.podPrefixes.map((cidr) => `--real-pod-cidr ${cidr}`),
    ...real.servicePrefixes.map((cidr) => `--real-service-cidr ${cidr}`)
  ]
  return new AppError(
    'TRANSLATION_MISMATCH',
    `addresses are translated between prefixes of one family and length, but ${causes.join(', and ')}`,
    `use prefixes of the same lengths on both sides; \`meshctl invite <cluster> ${flags.join(' ')}\` chooses free ones`
  )
}
