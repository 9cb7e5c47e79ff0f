"""A controller runtime that has never heard of DPUs.

::

    informer ──Delta──► (your handler) ──Key──► controller ──► reconcile(key)
       │ store             level-triggered        │ queue        │
       ▼                                          ▼              ▼
     client list/watch                         metrics        client writes ──reply──► informer.put

Inside: caches fed by list and watch (``informer`` over ``store``), keys that wait (``queue`` over
``schedule``), workers (``controller``), one leader (``lease`` over ``lease_state``), Events,
metrics, probes, signals, logs. Not inside: any kind of object, any decision about one.
"""
