"""Words of people before they are ids: brought to one plain form, and looked up.

Neither bundles nor ids are known here, and nothing is changed that no bundle asked for.
"""
