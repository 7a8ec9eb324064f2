"""What the page on the device needs beyond OpenAI's API: rounds to go back to, and what each cost.

It works over the gateway's sessions, and knows nothing of the page's looks.
"""
