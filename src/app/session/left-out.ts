// Shows what this cluster wants to publish and cannot, as faults: records that other agents would refuse
// (RECORD_REFUSED), and namespaces for which there is no room (NO_ROOM): core/replication/own-records.ts decides
// both. And namespaces that the invite of this cluster does not name (NAMESPACE_NOT_GRANTED): publisher.ts decides it.
import { PROTOCOL_LIMITS } from '../../core/replication/limits.ts'
import type { LeftOut } from '../../core/replication/own-records.ts'
import type { FaultText, Health } from '../observe/health.ts'

/** The most namespaces that a fault names. */
const SHOWN_MAX = 5
const { bytesPerOriginMax, keysPerOriginMax } = PROTOCOL_LIMITS

type Subject = FaultText & { readonly subject: string }

/**
 * Replaces the faults of both codes. Called by the control plane whenever the list changes; a record that is
 * published again is not in it.
 */
export function setLeftOut(health: Pick<Health, 'replace'>, leftOut: LeftOut): void {
  health.replace('RECORD_REFUSED', leftOut.refused.map(refusedFault))
  health.replace('NO_ROOM', leftOut.namespaces.map(noRoomFault))
}

/**
 * Sets or clears the fault of the namespaces that the invite of this cluster does not name. Other agents would refuse
 * their services, so none is published.
 */
export function setNotGranted(health: Pick<Health, 'replace'>, namespaces: readonly string[]): void {
  const named = namespaces.toSorted()
  const shown =
    named.length > SHOWN_MAX ? [...named.slice(0, SHOWN_MAX), `${named.length - SHOWN_MAX} more`] : named
  health.replace(
    'NAMESPACE_NOT_GRANTED',
    named.length === 0
      ? []
      : [
          {
            subject: 'namespaces',
            severity: 'warning',
            message: `services of the namespaces ${shown.join(', ')} are not exported: the invite of this cluster does not name them`,
            fix: 'set `export-namespaces` to the namespaces of the invite, which `meshctl trust status` shows; or ask an administrator for an invite that names more'
          }
        ]
  )
}

/**
 * `reduced`: the record is published, but without the fields that were wrong. The agent's and the cluster's own
 * record are needed by all others, so their absence is critical.
 */
function refusedFault({ key, reason, reduced }: LeftOut['refused'][number]): Subject {
  if (reduced)
    return {
      subject: key,
      severity: 'warning',
      message: `the ${key} record is published without the fields that other agents would refuse: ${reason}`,
      fix: 'correct the setting that the field comes from, or shorten the list'
    }
  if (key === 'agent' || key === 'cluster')
    return {
      subject: key,
      severity: 'critical',
      message: `the ${key} record is not published, because other agents would refuse it: ${reason}`,
      fix: 'correct the setting that the field comes from'
    }
  return {
    subject: key,
    severity: 'error',
    message: `${titleOf(key)} is not published, because other agents would refuse it: ${reason}`,
    fix: 'correct the object; all other objects are published'
  }
}

/** A namespace whose share of the cluster's limit is full. */
function noRoomFault(left: LeftOut['namespaces'][number]): Subject {
  const { namespace, services, endpointSlices, wantedBytes, publishedBytes } = left
  const what = [
    ...(services > 0 ? [`${services} of its services`] : []),
    ...(endpointSlices > 0 ? [`${endpointSlices} of its endpoint slices`] : [])
  ]
  return {
    subject: namespace,
    severity: 'error',
    message: `namespace ${namespace}: ${what.join(' and ')} are not published, because this cluster has more than the limit of one cluster (${limit()}); of the ${mebibytes(wantedBytes)} of this namespace, ${mebibytes(publishedBytes)} are published`,
    fix: 'export fewer services of this namespace, or make its EndpointSlices smaller; the agent publishes the rest as soon as there is room'
  }
}

/** "Service shop/web" for the key "svc/shop/web", "EndpointSlice shop/web-x" for "eps/shop/web-x". */
function titleOf(key: string): string {
  const [kind, namespace, name] = key.split('/')
  return `${kind === 'svc' ? 'Service' : 'EndpointSlice'} ${namespace}/${name}`
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}

/** Made when it is needed: to write a number in a language takes a fifth of the time in which meshd loads. */
function limit(): string {
  return `${bytesPerOriginMax / 1024 / 1024} MiB or ${keysPerOriginMax.toLocaleString('en')} records`
}
