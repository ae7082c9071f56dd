// The faults of a cluster whose addresses are translated (docs/overlap.md): prefixes of others that it uses itself, and real
// prefixes for which it has none in the mesh.
import type { RealPrefix } from '../../core/model/translation.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { HiddenPrefix } from '../../core/view/own-side.ts'
import type { Health } from '../observe/health.ts'

/** Sets the faults PREFIX_IN_USE_HERE and PREFIX_UNTRANSLATED, or clears those that are over. */
export function setTranslationFaults(
  health: Health,
  {
    cluster,
    hidden,
    realPrefixes
  }: {
    readonly cluster: ClusterName
    readonly hidden: readonly HiddenPrefix[]
    readonly realPrefixes: readonly RealPrefix[]
  }
): void {
  health.replace(
    'PREFIX_IN_USE_HERE',
    hidden.map(({ cluster: other, prefix, own }) => ({
      subject: prefix,
      severity: 'error' as const,
      message: `${prefix} of cluster ${other} overlaps ${own}, which this cluster really uses: its addresses there are not reached from here`,
      fix: `have the addresses of ${other} translated, too: \`meshctl leave\` there, \`meshctl invite ${other} --real-pod-cidr …\` here, and \`meshctl join --translate\` there`
    }))
  )
  health.replace(
    'PREFIX_UNTRANSLATED',
    realPrefixes
      .filter(({ virtual }) => virtual === undefined)
      .map(({ kind, real }) => ({
        subject: real,
        severity: 'error' as const,
        message: `no prefix of the mesh stands for ${real}: other clusters do not reach its ${kind}s`,
        fix: `give this cluster a free ${kind} prefix of the same length: \`meshctl grant ${cluster} --add-${kind}-cidr <prefix>\``
      }))
  )
}
